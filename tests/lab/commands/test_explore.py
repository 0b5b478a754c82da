"""`infobatch explore` finds the data of a run of the lab, and says what is wrong in one line."""

import base64
import json
import re
import shutil

import numpy as np
import pytest

from helpers.commands import refused_as_changed
from helpers.explorer import record
from infobatch.lab.commands.loading import load
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.runs.folder import RunFolder

pytest.importorskip("bokeh")

NUM_DIGITS = 1400


@pytest.fixture
def run(tmp_path):
    """A run of the lab on 1,400 digits, with recorded epochs."""
    folder = RunFolder(tmp_path / "run")
    folder.create(TrainConfig(data="digits"))
    record(folder.path, NUM_DIGITS)
    return folder.path


def test_the_pictures_and_classes_are_those_of_the_runs_data(call, run):
    code, out, error = call("explore", run)
    assert code == 0, error
    assert out.startswith(f"The page is {run / 'explore.html'} (")
    html = (run / "explore.html").read_text()
    assert "digits: what training tells of the data" in html
    assert "samples of 10 classes" in html
    assert 'class="sheet"' in html


def test_the_recorded_folder_itself_will_do_and_the_page_may_lie_elsewhere(call, run, tmp_path):
    page = tmp_path / "pages" / "mine.html"
    assert call("explore", run / "dynamics", "--out", page, "--most", 100)[0] == 0
    html = page.read_text()
    assert "the page shows 100" in html
    assert 'class="sheet"' in html


def numbers_on(page):
    """What the samples on a page are called."""
    found = re.search(r'id="array-index"[^>]*>([^<]*)<', page.read_text())
    return np.frombuffer(base64.b64decode(found[1]), np.int32).tolist()


@pytest.mark.parametrize("part", ["subset", "train_samples"])
def test_samples_of_a_part_have_their_numbers_in_the_whole_set(call, tmp_path, part):
    subset = [*range(0, NUM_DIGITS, 7)]
    (tmp_path / "part.json").write_text(json.dumps(subset))
    given = {"subset": tmp_path / "part.json", "train_samples": len(subset)}
    config = TrainConfig(data="digits", **{part: given[part]})
    folder = RunFolder(tmp_path / "run")
    folder.create(config)
    record(folder.path, len(subset))
    assert call("explore", folder.path)[0] == 0
    numbers = numbers_on(folder.path / "explore.html")
    assert numbers == load(config).origin.tolist()
    assert len(set(numbers)) == len(subset)
    assert (numbers == subset) == (part == "subset")
    assert "as --subset reads them" in (folder.path / "explore.html").read_text()


def test_near_duplicates_come_of_a_file(call, run, tmp_path):
    vectors = tmp_path / "vectors.npy"
    np.save(vectors, np.random.default_rng(0).random((NUM_DIGITS, 2)))
    assert call("explore", run, "--embeddings", vectors)[0] == 0
    assert "Near-duplicates" in (run / "explore.html").read_text()
    vectors.write_text("no array")
    code, _, error = call("explore", run, "--embeddings", vectors)
    assert code == 2
    assert "vectors.npy cannot be read" in error
    assert "give a file that numpy.save wrote" in error


def test_other_data_than_the_runs_is_refused(call, run):
    shutil.rmtree(run / "dynamics")
    record(run, 60)
    code, _, error = call("explore", run)
    assert code == 2
    assert "entries, but" in error
    assert "was recorded of 60 samples; give those of the data that it was trained on" in error


def test_data_that_have_changed_are_refused(call, of_changed_data):
    folder, table, before = of_changed_data
    assert refused_as_changed(call("explore", folder)) == str(table)
    assert refused_as_changed(call("explore", folder, "--data-dir", table)) == str(table)
    assert refused_as_changed(call("explore", folder, "--data-dir", before)) is None


def test_a_run_that_was_not_recorded_is_told_the_remedy(call, run):
    shutil.rmtree(run / "dynamics")
    code, _, error = call("explore", run)
    assert code == 2
    assert "has no recorded epochs" in error
    assert "--record" in error


def test_data_of_a_folder_that_is_no_run_is_refused(call, tmp_path):
    record(tmp_path)
    code, _, error = call("explore", tmp_path / "dynamics", "--data-dir", tmp_path)
    assert code == 2
    assert "give the data in Python, by infobatch.lab.explore" in error
