"""UNets, fresh ones and saved ones."""

from dataclasses import replace

import pytest
import torch

from helpers.diffusion import OPTIONS, QUICK, few_digits
from infobatch.lab.models import unets
from infobatch.lab.models.unets import UNETS, make_unet
from infobatch.lab.tasks.diffusion import Diffusion
from infobatch.lab.training.validate import check_config, check_run

pytest.importorskip("diffusers")


pytestmark = pytest.mark.usefixtures("tiny_unets")


@pytest.fixture(scope="module")
def data():
    return few_digits()


def test_a_model_in_a_folder_is_trained_further(data, tmp_path):
    model = make_unet("unet-tiny", 1, 8)
    model.save_pretrained(tmp_path)
    config = replace(QUICK, model=str(tmp_path))
    check_config(config)
    check_run(config, data)
    task = Diffusion(config, data)
    theirs = dict(model.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in task.model.named_parameters())
    assert task.model.training


def test_images_that_cannot_be_halved_are_refused_before_training(data, monkeypatch):
    monkeypatch.setitem(UNETS, "unet-odd", unets._unet((8,) * 5, 1))
    with pytest.raises(ValueError, match="unet-odd halves images 4 times, and these are 8 pixels wide"):
        check_run(replace(QUICK, model="unet-odd"), data)


def test_a_folder_that_does_not_fit_is_refused_before_training(data, tmp_path):
    make_unet("unet-tiny", 3, 8).save_pretrained(tmp_path)
    config = replace(QUICK, model=str(tmp_path))
    with pytest.raises(ValueError, match=r"has in_channels 3, and this data .* ask for 1"):
        check_run(config, data)
    with pytest.raises(ValueError, match=r"--diffusion.dropout is 0.1, but .* comes with its own"):
        check_config(replace(config, diffusion=replace(OPTIONS, dropout=0.1)))
    make_unet("unet-tiny", 1, 8).save_pretrained(tmp_path)
    check_run(config, data)
    with pytest.raises(ValueError, match=r"has num_class_embeds None, .* ask for 10"):
        check_run(replace(config, diffusion=replace(OPTIONS, class_conditional=True)), data)
