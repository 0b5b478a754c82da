"""The recipe of Ho et al."""

import math

import pytest

from infobatch.lab.models.unets import make_unet
from infobatch.lab.recipes import find_recipe

pytest.importorskip("diffusers")


def test_the_recipe_of_ho_et_al_has_their_settings():
    config = find_recipe("cifar10-ddpm").config()
    assert (config.batch_size, config.lr, config.ema_decay) == (128, 2e-4, 0.9999)
    assert (config.diffusion.dropout, config.diffusion.timesteps, config.delta) == (0.1, 1000, 0.825)
    assert config.epochs * math.ceil(50_000 / 128) == pytest.approx(800_000, rel=0.002)
    num_parameters = sum(p.numel() for p in make_unet(config.model, 3, 32).parameters())
    assert num_parameters == pytest.approx(35.7e6, rel=0.005)
