"""Crops, flips, mixup and cutmix, which depend on seed, epoch and index alone."""

import numpy as np
import pytest
import torch

from infobatch.lab.data import Augment, ImageData, Images, Mixing

IMAGES = torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8)
LABELS = torch.tensor([0, 1, 2, 3])
INDICES = torch.tensor([10, 11, 12, 13])


def numbered_images(flip):
    pixels = torch.arange(4 * 8 * 8, dtype=torch.int64).remainder(251).to(torch.uint8)
    images = Images(pixels.reshape(4, 1, 8, 8), torch.arange(4))
    return ImageData("numbered", images, images, ("a", "b", "c", "d"), crop_padding=2, flip=flip)


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_is_a_window_of_the_padded_image(flip):
    data = numbered_images(flip)
    augment = Augment(data, seed=0)
    augment.begin(3)
    crops = augment(torch.tensor([2, 0]))
    for crop, index in zip(crops, (2, 0), strict=True):
        padded = np.pad(data.train.pixels[index, 0].numpy(), 2, mode="reflect")
        windows = [padded[y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        seen = [crop[0].numpy(), crop[0].flip(1).numpy()] if flip else [crop[0].numpy()]
        assert any(np.array_equal(window, s) for window in windows for s in seen)


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    data = numbered_images(flip=True)
    one, other = Augment(data, seed=0), Augment(data, seed=0)
    one.begin(1)
    other.begin(0)
    other.begin(1)
    together = one(torch.tensor([0, 1, 2, 3]))
    assert torch.equal(together[[3, 1]], other(torch.tensor([3, 1])))
    differing = []
    for epoch in range(2, 8):
        one.begin(epoch)
        differing.append(not torch.equal(one(torch.tensor([0, 1, 2, 3])), together))
    assert any(differing)


def test_cutout_blanks_one_square_of_each_image():
    data = numbered_images(flip=False)
    blank = torch.tensor([252], dtype=torch.uint8)  # no pixel has it
    plain, cut = Augment(data, seed=0), Augment(data, seed=0, cutout=3, blank=blank)
    places = set()
    for epoch in range(20):
        plain.begin(epoch)
        cut.begin(epoch)
        images, blanked = (augment(torch.arange(4)) for augment in (plain, cut))
        for image, other in zip(images[:, 0], blanked[:, 0], strict=True):
            rows, columns = (other == 252).nonzero(as_tuple=True)
            assert len(rows) == 9
            assert rows.unique().tolist() == list(range(rows.min(), rows.min() + 3))
            assert columns.unique().tolist() == list(range(columns.min(), columns.min() + 3))
            assert torch.equal(other[other != 252], image[other != 252])
            places.add((int(rows.min()), int(columns.min())))
    assert len(places) > 20


def mixing(**options):
    made = Mixing(20, **{"mixup": 0.0, "cutmix": 0.0, "seed": 3, **options})
    made.begin(2, torch.device("cpu"))
    return made


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_targets_are_the_shares_of_the_pixels(options):
    images, targets = mixing(**options)(IMAGES, LABELS, INDICES, 4)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    # Image i is all i, and its partner all i - 1: the mean tells the share.
    torch.testing.assert_close(images.mean((1, 2, 3)), targets @ torch.arange(4.0))
    assert (targets[torch.arange(4), LABELS] < 1).any()


def test_cutmix_pastes_one_box():
    images, _ = mixing(cutmix=1.0)(IMAGES, LABELS, INDICES, 4)
    for image, own, other in zip(images[:, 0], IMAGES[:, 0], IMAGES.roll(1, 0)[:, 0], strict=True):
        pasted = image == other
        assert torch.equal(image[~pasted], own[~pasted])
        rows, columns = pasted.any(1).nonzero(), pasted.any(0).nonzero()
        if len(rows):
            box = pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.all()


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_a_samples_share_depends_on_seed_epoch_and_index_alone(options):
    _, together = mixing(**options)(IMAGES, LABELS, INDICES, 4)
    order = torch.tensor([2, 0, 3, 1])
    _, shuffled = mixing(**options)(IMAGES[order], LABELS[order], INDICES[order], 4)
    own = together[torch.arange(4), LABELS]
    torch.testing.assert_close(shuffled[torch.arange(4), LABELS[order]], own[order])
    later = mixing(**options)
    later.begin(3, torch.device("cpu"))
    _, other = later(IMAGES, LABELS, INDICES, 4)
    assert not torch.equal(other, together)


def test_shares_follow_the_beta_distribution():
    many = Mixing(20_000, mixup=2.0, cutmix=0.0, seed=0)
    many.begin(0, torch.device("cpu"))
    shares = many._shares.numpy()
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert np.var(shares) == pytest.approx(1 / 20, abs=0.003)  # of Beta(2, 2)
