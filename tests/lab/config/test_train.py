"""A run's options as JSON and as arguments."""

import json
from dataclasses import replace

from helpers.digits import QUICK
from infobatch.lab.config.train import TrainConfig


def test_config_survives_json():
    config = replace(QUICK, target=(0, 5, 5, 0), policy="random")
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_arguments_name_what_differs_from_the_defaults():
    assert TrainConfig(lr=0.1, target=(1, 2)).to_arguments() == [
        "--target",
        "1",
        "2",
        "--lr",
        "0.1",
    ]


def test_arguments_have_all_digits():
    config = TrainConfig(epochs=17.98765432, lr=1e-05, target=1 / 3)
    typed = ["--epochs", "17.98765432", "--target", repr(1 / 3), "--lr", "1e-05"]
    assert config.to_arguments() == typed
    assert TrainConfig(epochs=4.0).to_arguments() == ["--epochs", "4"]


def test_boolean_arguments_can_be_switched_off():
    base = TrainConfig(compile=True, drop_last=False)
    assert TrainConfig(drop_last=True).to_arguments(base) == ["--drop-last", "--no-compile"]
