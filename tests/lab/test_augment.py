import numpy as np
import pytest
import torch

from infobatch.lab.data import Mixing

IMAGES = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8)
LABELS = torch.tensor([0, 1, 2, 3])
SAMPLES = torch.tensor([10, 11, 12, 13])


def mixing(**options):
    made = Mixing(20, **{"mixup": 0.0, "cutmix": 0.0, "seed": 3, **options})
    made.begin(2, torch.device("cpu"))
    return made


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_targets_are_the_shares_of_the_pixels(options):
    images, targets = mixing(**options)(IMAGES, LABELS, SAMPLES, 4)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    # Image i is all i, and its partner all i - 1: the mean tells the share.
    torch.testing.assert_close(images.mean((1, 2, 3)), targets @ torch.arange(4.0))
    assert (targets[torch.arange(4), LABELS] < 1).any()


def test_cutmix_pastes_one_box():
    images, _ = mixing(cutmix=1.0)(IMAGES, LABELS, SAMPLES, 4)
    for image, own, other in zip(images[:, 0], IMAGES[:, 0], IMAGES.roll(1, 0)[:, 0], strict=True):
        pasted = image == other
        assert torch.equal(image[~pasted], own[~pasted])
        rows, columns = pasted.any(1).nonzero(), pasted.any(0).nonzero()
        if len(rows):
            box = pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.all()


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_a_samples_share_depends_on_seed_epoch_and_index_alone(options):
    _, together = mixing(**options)(IMAGES, LABELS, SAMPLES, 4)
    order = torch.tensor([2, 0, 3, 1])
    _, shuffled = mixing(**options)(IMAGES[order], LABELS[order], SAMPLES[order], 4)
    own = together[torch.arange(4), LABELS]
    torch.testing.assert_close(shuffled[torch.arange(4), LABELS[order]], own[order])
    later = mixing(**options)
    later.begin(3, torch.device("cpu"))
    _, other = later(IMAGES, LABELS, SAMPLES, 4)
    assert not torch.equal(other, together)


def test_shares_follow_the_beta_distribution():
    many = Mixing(20_000, mixup=2.0, cutmix=0.0, seed=0)
    many.begin(0, torch.device("cpu"))
    shares = many._shares.numpy()
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert np.var(shares) == pytest.approx(1 / 20, abs=0.003)  # of Beta(2, 2)
