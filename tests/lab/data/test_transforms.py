"""Transforms of the user's: what they give, and where what they draw comes from."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from infobatch.distributed import Replicas
from infobatch.lab.data import load_data, make_feed
from infobatch.lab.functions import GIVEN

CPU = torch.device("cpu")


def noisy(train, image_size):
    """Brightness by a draw of each generator that a transform may draw from."""

    def transform(image):
        drawn = float(torch.rand(())) + np.random.rand() + random.random() if train else 0.0
        pixels = np.asarray(image.resize((image_size, image_size)), dtype=np.float32)
        return torch.from_numpy(pixels).permute(2, 0, 1) / 255 + drawn

    return transform


@pytest.fixture
def named(monkeypatch):
    def name(function):
        monkeypatch.setitem(GIVEN, "views.py:make", function)
        return "views.py:make"

    return name


@pytest.fixture
def data(folders):
    return load_data("imagenet", folders)


def test_the_network_sees_what_the_transform_gives(data, named):
    seen = data.seen(16, named(noisy))
    assert seen.shape == (3, 16, 16)
    feed = make_feed(seen, CPU, 0, 0)
    feed.begin(1)
    batch = feed(feed.first(4))
    assert torch.equal(feed.images(batch[0]), batch[0])
    assert batch[0].mean() > 1
    plain = next(feed.test_batches(Replicas()))[0]
    assert plain.max() <= 1


def test_what_is_drawn_depends_on_seed_epoch_and_index_alone(data, named):
    seen = data.seen(16, named(noisy))
    feeds = [make_feed(seen, CPU, seed, 0) for seed in (0, 0, 1)]
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    for feed in feeds:
        feed.begin(3)
    first, again, other = (feed.dataset[5][0] for feed in feeds)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    loader = DataLoader(feeds[0].dataset, 4, num_workers=2, generator=torch.Generator())
    by_workers = torch.cat([pixels for pixels, _ in loader])
    assert torch.equal(by_workers[5], first)
    feeds[0].begin(4)
    assert not torch.equal(feeds[0].dataset[5][0], first)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


def test_it_reaches_loader_processes_that_are_started_anew(data, named):
    transforms = data.seen(16, named(noisy)).transforms
    image = Image.new("RGB", (20, 10), "white")
    assert torch.equal(pickle.loads(pickle.dumps(transforms.test))(image), torch.ones(3, 16, 16))


def test_images_have_the_size_asked_for(data):
    feed = make_feed(data.seen(48, ""), CPU, 0, 0)
    assert feed.dataset[0][0].shape == (3, 48, 48)
    assert data.seen(0, "").shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("pixels", "returns a value of type str; return a function of an image"),
        (lambda image: image, "makes of an image a Image; make a tensor"),
        (
            lambda image: torch.zeros(3, 8, 8, dtype=torch.uint8),
            r"a tensor \(3, 8, 8\) of torch.uint8; make",
        ),
        (
            lambda image: image.none,
            r"fails on an image of 60x40 pixels: AttributeError: .*test_transforms",
        ),
        (lambda image: torch.rand(3, 8, int(torch.randint(2, 99, ()))), "give all images one size"),
    ],
)
def test_a_transform_that_could_not_be_used_is_told_before(data, named, made, message):
    with pytest.raises(ValueError, match=message):
        data.seen(8, named(lambda: made))


def test_an_image_that_it_fails_on_is_named(data, named):
    asked = []

    def transform(image):
        asked.append(image)
        return torch.zeros(3, 8, 8) if len(asked) < 6 else image.none

    feed = make_feed(data.seen(8, named(lambda: transform)), CPU, 0, 0)
    feed.dataset[0]
    with pytest.raises(ValueError, match=r"--transform fails on .*n01_1\.JPEG \(AttributeError"):
        feed.dataset[1]
