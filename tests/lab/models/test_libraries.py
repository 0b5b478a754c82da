"""Models of timm and of transformers, with new and with trained weights."""

import sys

import pytest
import torch

from infobatch.lab.models import check_model, make_model, try_model

CPU = torch.device("cpu")
IMAGE = (3, 32, 32)


class Timm:
    """What is called of the package."""

    known = ("resnet26", "resnet50", "vit_base_patch16_224")

    @classmethod
    def create_model(cls, name, **options):
        cls.made.append((name, options))
        return torch.nn.Identity()

    @classmethod
    def is_model(cls, name):
        return name.split(".")[0] in cls.known

    @staticmethod
    def is_model_pretrained(name):
        return name != "resnet26"

    @classmethod
    def list_models(cls):
        return list(cls.known)


@pytest.fixture
def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", Timm)
    monkeypatch.setattr(Timm, "made", [], raising=False)
    return Timm


@pytest.mark.parametrize("pretrained", [False, True])
def test_models_of_timm_are_made_where_it_is_installed(timm, pretrained):
    check_model("timm/resnet50.a1_in1k", 1, "batch", pretrained)
    make_model("timm/resnet50.a1_in1k", IMAGE, 10, pretrained=pretrained)
    options = {"in_chans": 3, "num_classes": 10, "pretrained": pretrained}
    assert timm.made == [("resnet50.a1_in1k", options)]


@pytest.mark.parametrize(
    ("name", "norm", "pretrained", "message"),
    [
        ("timm/resnet26", "group", False, "--norm is group, but timm/resnet26 comes with its own"),
        ("timm/resnet52", "batch", False, "timm has no model 'resnet52'; did you mean timm/resnet50"),
        ("timm/none", "batch", False, "timm has no model 'none'; check the name"),
        ("timm/resnet26", "batch", True, "no trained weights of resnet26; leave --pretrained out"),
    ],
)
def test_what_timm_does_not_have_is_refused(timm, name, norm, pretrained, message):
    with pytest.raises(ValueError, match=message):
        check_model(name, 1, norm, pretrained)


def test_weights_that_cannot_be_had_are_told(timm, monkeypatch):
    def refuse(name, **options):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match=r"a trained model of that name .*no route to host"):
        make_model("timm/resnet50", IMAGE, 10, pretrained=True)


def test_timm_that_cannot_be_imported_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"models named timm/NAME need timm.*pip install timm"):
        check_model("timm/resnet26", 1, "batch")


@pytest.fixture
def saved(tmp_path):
    """A folder to which transformers saved a classifier of three classes."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
        patch_size=8, num_labels=3,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path)
    return tmp_path, model.state_dict()


@pytest.mark.parametrize("pretrained", [False, True])
def test_models_of_transformers_have_new_or_trained_weights_and_a_new_last_layer(saved, pretrained):
    place, weights = saved
    name = f"transformers/{place}"
    check_model(name, 1, "batch", pretrained)
    try_model(name, IMAGE, 5, CPU, pretrained)
    model = make_model(name, IMAGE, 5, pretrained=pretrained)
    assert model(torch.zeros(2, *IMAGE)).shape == (2, 5)
    key = "vit.embeddings.patch_embeddings.projection.weight"
    assert torch.equal(model.network.state_dict()[key], weights[key]) == pretrained


def test_a_trained_model_for_other_images_is_refused_and_a_new_one_fits_them(saved):
    name = f"transformers/{saved[0]}"
    try_model(name, (1, 16, 16), 5, CPU)
    with pytest.raises(ValueError, match=r"fails on a batch of images of \(3, 3, 16, 16\)"):
        try_model(name, (3, 16, 16), 5, CPU, pretrained=True)


def test_a_folder_without_a_model_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="a new model of that name cannot be made"):
        try_model(f"transformers/{tmp_path}", IMAGE, 5, CPU)
