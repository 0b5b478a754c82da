"""Models that a function of the user's makes."""

import pytest
import torch
from torch import nn

from infobatch.lab.functions import GIVEN
from infobatch.lab.models import check_model, make_model, try_model

CPU = torch.device("cpu")
IMAGE = (3, 16, 16)


@pytest.fixture
def named(monkeypatch):
    """Give a function a name, as an option has it."""

    def name(function):
        monkeypatch.setitem(GIVEN, "model.py:make", function)
        return "model.py:make"

    return name


def linear(width, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(width, num_classes))


def test_a_function_is_given_what_it_names(named):
    given = []

    def make(num_channels, *, image_size, num_classes, dropout=0.0):
        given.append((num_channels, image_size, num_classes, dropout))
        return linear(768, num_classes)

    name = named(make)
    check_model(name, 1, "batch")
    try_model(name, IMAGE, 5, CPU)
    make_model(name, (3, 16, 8), 5)
    assert given == [(3, 16, 5, 0.0), (3, (16, 8), 5, 0.0)]


def test_one_that_takes_any_is_given_the_number_of_classes(named):
    assert (
        make_model(named(lambda weights=None, **options: linear(768, **options)), IMAGE, 5)[
            1
        ].out_features
        == 5
    )


def test_the_check_draws_from_no_global_generator(named):
    before = torch.get_rng_state()
    try_model(named(lambda num_classes: linear(768, num_classes)), IMAGE, 5, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_of_transformers_gives_its_logits(named):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=5, layer_type="basic"
    )
    try_model(named(lambda: transformers.ResNetForImageClassification(config)), IMAGE, 5, CPU)


class InTraining(nn.Module):
    """Gives a pair in training, as networks with two heads do."""

    def __init__(self):
        super().__init__()
        self.layer = linear(768, 5)

    def forward(self, images):
        logits = self.layer(images)
        return (logits, logits) if self.training else logits


def broken(num_classes):
    raise RuntimeError("no weights there")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: "resnet", "returns a value of type str; return a torch.nn.Module"),
        (lambda: None, "returns None; return a torch.nn.Module"),
        (lambda: linear(768, 7), r"in training a tensor \(3, 7\) of float32 for 3 images of 5 classes"),
        (InTraining, "gives in training a value of type tuple for 3 images"),
        (lambda: linear(12, 5), r"fails on a batch of images of \(3, 3, 16, 16\): RuntimeError: mat1"),
        (nn.Flatten, "has no parameters to train"),
        (
            lambda width: linear(width, 5),
            "needs the argument width, and is called with num_classes, ",
        ),
        (broken, r"fails: RuntimeError: no weights there \(line \d+ of test_own.py\)"),
    ],
)
def test_what_could_not_be_trained_is_told_before(named, function, message):
    with pytest.raises(ValueError, match=message):
        try_model(named(function), IMAGE, 5, CPU)


def test_the_labs_own_options_are_not_for_it(named):
    name = named(InTraining)
    for options, message in (
        ((4, "batch"), "--stem-stride is 4"),
        ((1, "group"), "--norm is group"),
        ((1, "batch", True), "--pretrained is for models of timm and transformers"),
    ):
        with pytest.raises(ValueError, match=message):
            check_model(name, *options)
