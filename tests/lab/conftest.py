"""What the lab's tests have in common; tests on other data than digits have a ``data`` of their own."""

import json

import pytest

from helpers import mae, run, tuning
from helpers.comparisons import COMPARED, HALF
from helpers.segmentation import camvid
from infobatch.lab.commands.loading import load
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.run import run_comparison
from infobatch.lab.data import load_data
from infobatch.lab.models import language, unets


@pytest.fixture(scope="session")
def data():
    return load_data("digits")


@pytest.fixture(scope="session")
def part(data):
    """The first 150 training images."""
    return data.split(0.0, 150)


@pytest.fixture(scope="session")
def comparison(data, tmp_path_factory):
    """A comparison of two seeds, whose runs are finished."""
    path = tmp_path_factory.mktemp("runs") / "comparison"
    made = Comparison(COMPARED, (HALF,), num_seeds=2, margin=0.5, path=path)
    made.create()
    run_comparison(made, data, lambda arm, seed, progress: None, lambda: False)
    return made


@pytest.fixture(scope="session")
def camvid_folder(tmp_path_factory):
    return camvid(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def instructions(tmp_path_factory):
    """A folder with 42 instructions to train on, and 10 to test on."""
    folder = tmp_path_factory.mktemp("instructions")
    (folder / "train.json").write_text(json.dumps(tuning.rows(42, 0)))
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, tuning.rows(10, 3))))
    return folder


@pytest.fixture(scope="session")
def masked_run(tmp_path_factory):
    """The folder of a finished run of masked autoencoding."""
    path = tmp_path_factory.mktemp("mae") / "run"
    with mae.tiny_masked():
        run(mae.QUICK, load(mae.QUICK), path)
    return path


# -- Models small enough to train within a second ----------------------------------------------------


@pytest.fixture(scope="module")
def masked_size():
    with mae.tiny_masked():
        yield


@pytest.fixture
def tiny_unets(monkeypatch):
    """Two levels of eight channels."""
    unet = unets._unet((8, 8), 1, norm_num_groups=4, attention_head_dim=8)
    monkeypatch.setitem(unets.UNETS, "unet-tiny", unet)


@pytest.fixture
def tiny_language_models(monkeypatch):
    monkeypatch.setitem(language.SHAPES, "llama-tiny", (language._llama(16, 1, 2), 320))
    monkeypatch.setitem(language.SHAPES, "gpt2-tiny", (language._gpt2(16, 1, 2), 320))
