"""The wide and short network: what its first layer whitens, and what is not trained."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from infobatch.lab.models import check_model_fits, make_model
from infobatch.lab.models.speed_cnn import PATCH


def test_the_first_layer_whitens_the_images_it_was_made_by():
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.randn(64, 3, 8, 8, generator=generator), scale_factor=4.0)
    images = smooth + 0.5 * torch.randn(64, 3, 32, 32, generator=generator)
    model = make_model("speed-cnn-narrow", (3, 32, 32), 10)
    model.whiten(images)
    with torch.no_grad():
        outputs = model.stem(images).transpose(0, 1).flatten(1)
    half = 3 * PATCH**2
    torch.testing.assert_close(outputs[:half], -outputs[half:], rtol=1e-4, atol=1e-4)
    moments = outputs[:half] @ outputs[:half].T / outputs.shape[1]
    torch.testing.assert_close(moments, torch.eye(half), rtol=0, atol=0.01)


def test_neither_the_first_layer_nor_scales_are_trained():
    model = make_model("speed-cnn-narrow", (3, 32, 32), 10)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"stem.weight", *(f"groups.{g}.norms.{n}.weight" for g in range(3) for n in (0, 1))}


def test_convolutions_begin_as_identities():
    model = make_model("speed-cnn-narrow", (3, 32, 32), 10)
    conv = model.groups[1].convs[0]
    images = torch.randn(2, conv.in_channels, 8, 8)
    torch.testing.assert_close(conv(images)[:, : conv.in_channels], images)


@pytest.mark.parametrize("size", [16, 28, 32, 64])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_it_takes_images_of_16_pixels_and_more(size, norm):
    model = make_model("speed-cnn-narrow", (1, 32, 32), 7, norm=norm)
    assert model(torch.randn(3, 1, size, size)).shape == (3, 7)


def forward_flops(model):
    """Of one image."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops()


@pytest.mark.parametrize(("name", "share"), [("speed-cnn-medium", 5.6), ("speed-cnn-narrow", 17.7)])
def test_narrower_ones_compute_less(name, share):
    wide, narrow = (forward_flops(make_model(each, (3, 32, 32), 10)) for each in ("speed-cnn", name))
    assert wide / narrow == pytest.approx(share, abs=0.1)


def test_smaller_images_are_refused():
    with pytest.raises(ValueError, match="at least 16 pixels a side, and these have 8 x 8"):
        check_model_fits("speed-cnn", (1, 8, 8))
