"""Masked autoencoders: fresh ones, saved ones, and the images that they fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import changed
from helpers.mae import QUICK, inputs_of
from infobatch.lab.commands.loading import load
from infobatch.lab.models.masked import make_masked, sine_positions
from infobatch.lab.tasks.mae import MaskedAutoencoding
from infobatch.lab.training.validate import check_config, check_run

pytest.importorskip("transformers")


pytestmark = pytest.mark.usefixtures("masked_size")


@pytest.fixture(scope="module")
def data():
    return load(QUICK)


def test_a_fresh_model_knows_where_its_patches_are(data):
    model = MaskedAutoencoding(QUICK, data).model
    table = sine_positions(4, 16)
    assert torch.equal(model.vit.embeddings.position_embeddings[0], table)
    assert torch.equal(model.decoder.decoder_pos_embed[0], table)
    assert torch.cdist(table, table)[~torch.eye(17, dtype=torch.bool)].min() > 0.5
    row, column = 2, 3
    place = table[1 + 4 * row + column]
    expected = [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    assert place[::4].tolist() == pytest.approx(expected, abs=1e-6)
    assert table[0].abs().sum() == 0
    assert model.decoder.mask_token.abs().min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mae.patch": 3},
            "patches of 3 pixels do not divide images of 8x8; give --mae.patch, one of 1",
        ),
        ({"mae.patch": 8}, "--mae.mask-ratio is 0.75, which masks every patch of an image's 1; lower"),
        ({"mae.mask_ratio": 0.01, "mae.patch": 4}, None),
        ({"mae.mask_ratio": 1e-17}, "is 1e-17, which masks no patch of an image's 16; raise it"),
        ({"mae.mask_ratio": 0.95}, "is 0.95, which masks every patch of an image's 16; lower it"),
        ({"mae.patch": 1}, "--mae.patch is 1, and nothing is left of one pixel normalized"),
    ],
)
def test_options_that_do_not_fit_the_images_are_refused(data, options, message):
    config = changed(QUICK, options)
    check_config(config)
    if message is None:
        check_run(config, data)
        return
    with pytest.raises(ValueError, match=message):
        check_run(config, data)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model that transformers saved, for images of 8x8 pixels and one channel."""
    path = tmp_path_factory.mktemp("saved") / "model"
    torch.manual_seed(5)
    make_masked("mae-test", (1, 8, 8), QUICK.mae).save_pretrained(path)
    return path


def test_a_saved_model_is_trained_further(data, saved):
    config = changed(replace(QUICK, model=str(saved)), {"mae.mask_ratio": 0.5, "mae.patch": 0})
    check_config(config)
    check_run(config, data)
    task = MaskedAutoencoding(config, data)
    torch.manual_seed(5)
    weights = make_masked("mae-test", (1, 8, 8), QUICK.mae).state_dict()
    assert weights.keys() == task.model.state_dict().keys()
    assert all(torch.equal(task.model.state_dict()[name], weights[name]) for name in weights)
    task.begin(0)
    assert task.forward(task.model, inputs_of(task, [0]))[1].sum() == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "mnist5k"}, "is for images of 8x8 pixels and 1 channels, and the data's are of 28x28"),
        ({"mae.patch": 4}, "--mae.patch is 4, and --model .* has patches of 2 pixels; leave it out"),
    ],
)
def test_a_saved_model_needs_its_images(saved, options, message):
    config = changed(replace(QUICK, model=str(saved)), options)
    check_config(config)
    with pytest.raises(ValueError, match=message):
        check_run(config, load(config))


def test_a_saved_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"holds a model of type 'bert' of transformers; .* needs"):
        check_config(replace(QUICK, model=str(tmp_path)))
