"""The Fréchet distance, and the features that it is of."""

import numpy as np
import pytest
import torch

from helpers.diffusion import Means, few_digits, with_options
from infobatch.lab.tasks.fid import Features, Moments, frechet_distance
from infobatch.lab.training.validate import check_run

pytest.importorskip("diffusers")


pytestmark = pytest.mark.usefixtures("tiny_unets")


def moments(features):
    added = Moments()
    for part in features.split(100):
        added.add(part)
    return added.merged()


def test_the_distance_of_equal_sets_is_0_and_of_shifted_ones_the_squared_shift():
    features = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)).double()
    assert frechet_distance(moments(features), moments(features)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(moments(features), moments(features + 0.5)) == pytest.approx(6 * 0.25)
    # Of normal distributions in one dimension: the difference of the deviations, squared.
    spread = frechet_distance(
        moments(features[:, :1]), moments(3 * features[:, :1] - 2 * features[:, :1].mean())
    )
    assert spread == pytest.approx(4 * features[:, 0].var().item())
    mean, covariance = moments(features)
    np.testing.assert_allclose(mean, features.mean(0))
    np.testing.assert_allclose(covariance, torch.cov(features.T))


def test_features_are_those_of_uint8_images_in_three_channels(scripted):
    pixels = torch.randint(256, (4, 1, 8, 8)).to(torch.uint8)
    features = Features(scripted(Means()), torch.device("cpu"))(pixels)
    assert features.shape == (4, 3)
    np.testing.assert_allclose(features[:, 2], pixels.double().mean((1, 2, 3)), rtol=1e-6)


@pytest.fixture(scope="module")
def data():
    return few_digits()


class Whole(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float()


class Coloured(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[1] == 4
        return images.float().flatten(1)


def test_features_that_are_none_are_refused_before_training(data, scripted, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--diffusion.features is \S+none.pt, which is no file"):
        check_run(with_options(features=str(tmp_path / "none.pt")), data)
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ValueError, match=r"text.pt, which TorchScript cannot load"):
        check_run(with_options(features=str(tmp_path / "text.pt")), data)
    with pytest.raises(ValueError, match=r"makes \(2, 3, 8, 8\) of 2 images; it must give .*\(2, F\)"):
        check_run(with_options(features=scripted(Whole())), data)
    with pytest.raises(ValueError, match=r"fails on uint8 images of shape \(2, 3, 8, 8\)"):
        check_run(with_options(features=scripted(Coloured())), data)
