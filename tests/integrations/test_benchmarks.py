"""The benchmarks that need other packages run."""

import json
import shutil
import sys
from dataclasses import replace

import pytest

from helpers.benchmarks import BENCHMARKS, benchmark


@pytest.fixture(autouse=True)
def _found_by_one_another(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_signals_find_flipped_labels_and_a_finished_cell_stays(tmp_path, capsys, monkeypatch):
    pytest.importorskip("cleanlab")
    options = ["--data", "digits", "--rates", "0.1", "--kinds", "uniform", "--seeds", "3"]
    options += ["--epochs", "3", "--folds", "2", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["mislabels.py", *options, "--json", str(tmp_path / "all.json")])
    benchmark("mislabels").main()
    (result,) = json.loads((tmp_path / "all.json").read_text())
    assert result["runs"]["none"]["signals"]["aum"]["auroc"] > 0.8
    assert result["runs"]["infobatch"]["agreement"]["first_loss"] == pytest.approx(1)
    assert result["held out"]["find_label_issues"]["found"] > 0
    assert "cleanlab, held in: quality, self_confidence" in capsys.readouterr().out
    before = (tmp_path / "digits-uniform-0.1-seed3.json").read_text()
    benchmark("mislabels").main()
    assert (tmp_path / "digits-uniform-0.1-seed3.json").read_text() == before
    monkeypatch.setattr("sys.argv", ["mislabels.py", *options, "--epochs", "4"])
    with pytest.raises(SystemExit):
        benchmark("mislabels").main()
    assert "has epochs 3, not 4; give another --out" in capsys.readouterr().err


def test_scores_of_single_draws_are_compared(tmp_path, monkeypatch, capsys):
    pytest.importorskip("diffusers")
    from infobatch.lab.models.unets import UNETS, _unet
    from infobatch.lab.recipes import RECIPES

    recipe = RECIPES["mnist5k-ddpm"]
    config = replace(recipe.make(), data="digits", held_out=0.1, model="unet-smaller")
    monkeypatch.setitem(UNETS, "unet-smaller", _unet((8, 8), 1, norm_num_groups=4, attention_head_dim=8))
    monkeypatch.setitem(RECIPES, "tiny", replace(recipe, name="tiny", make=lambda: config))
    path = tmp_path / "scores.json"
    options = ["--recipe", "tiny", "--epochs", "1", "--train-samples", "100", "--samples", "100"]
    options += ["--draws", "4", "--device", "cpu", "--out", str(tmp_path / "run"), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["timestep_scores.py", *options])
    scores = benchmark("timestep_scores")
    scores.main()
    rows = json.loads(path.read_text())["results"]
    assert [row["score"] for row in rows] == ["loss", "normalized"]
    values = [[value for name, value in row.items() if name != "score"] for row in rows]
    assert all(abs(value) <= 1 for row in values for value in row)
    assert all(ours != theirs for ours, theirs in zip(*values, strict=True))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "100 images of digits, 4 draws each, unet-smaller"
    assert lines[-1].split() == ["normalized", *(f"{value:.3f}" for value in values[1])]


def test_the_explorers_page_is_opened_and_pictured(tmp_path, monkeypatch, capsys):
    pytest.importorskip("bokeh")
    pytest.importorskip("playwright")
    if not shutil.which("chromium"):
        pytest.skip("no browser")
    results, picture = tmp_path / "e.json", tmp_path / "e.png"
    options = ["--data", "digits", "--samples", "200", "--epochs", "3", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["explorer.py", *options, "--json", str(results)])
    explorer = benchmark("explorer")
    explorer.main()
    found = json.loads(results.read_text())
    assert 0 < found["opening"][0] < 30
    assert found["longest frame"] > 0 < found["choice"]
    assert "limit 3" in capsys.readouterr().out
    explorer.record(tmp_path / "dynamics", 200, 3)
    contents = explorer.contents_of(explorer.load_data("digits").split(0, 200))
    page = explorer.write_page(explorer.open_run(tmp_path), contents)
    monkeypatch.setattr(sys, "argv", ["explorer.py", "--page", str(page), "--picture", str(picture)])
    explorer.main()
    assert picture.read_bytes().startswith(b"\x89PNG")
