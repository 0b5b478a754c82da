"""Masks of patches, by seed, epoch and index."""

import torch

from infobatch.lab.data.masks import Masks

CPU = torch.device("cpu")


def masks(seed=0, epoch=0, num_patches=64):
    made = Masks(seed, num_patches, CPU)
    made.begin(epoch)
    return made


def test_a_mask_depends_on_seed_epoch_and_index_alone():
    indices = torch.arange(100)
    drawn = masks()(indices)
    assert torch.equal(masks()(indices.flip(0)).flip(0), drawn)
    assert torch.equal(masks()(torch.tensor([7])), drawn[7:8])
    for other in (masks(seed=1), masks(epoch=1)):
        assert (other(indices).argsort(1) != drawn.argsort(1)).any(1).all()


def test_masks_are_random():
    """Patches are masked alike, whatever the sample, its neighbours and the other patches."""
    ranks = masks()(torch.arange(20_000)).argsort(1).argsort(1)
    assert torch.equal(ranks.sort(1).values, torch.arange(64).expand(20_000, -1))
    masked = (ranks >= 16).double()
    assert masked.sum(1).unique().tolist() == [48]
    assert abs(masked.mean(0) - 0.75).max() < 5 * (0.75 * 0.25 / 20_000) ** 0.5
    together = torch.corrcoef(masked.T)
    expected = torch.full((64, 64), -1 / 63, dtype=torch.float64).fill_diagonal_(1)
    assert abs(together - expected).max() < 5.5 / 20_000**0.5
    assert abs((masked[1:] * masked[:-1]).mean() - 0.75**2) < 0.002
