"""A run's folder: its claim, its options, its checkpoint, its scores and its model."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import run, stop_after
from helpers.digits import QUICK, SCORED
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import EpochMetrics
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training import static_scores
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.train import train
from infobatch.policies import Static


def test_a_folder_that_holds_something_is_refused(data, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"already holds other files; choose another --out$"):
        RunFolder(tmp_path).create(QUICK)
    RunFolder(tmp_path / "a").create(QUICK)
    with pytest.raises(FileExistsError, match=r"already holds a run; .* or give --resume"):
        RunFolder(tmp_path / "a").create(QUICK)


def test_the_checkpoint_loads_without_pickle(data, tmp_path):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(13))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["pruner"]["epoch"] == 1


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(13))
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read .* remove it to train"):
        run(QUICK, data, tmp_path)
    checkpoint.unlink()
    assert run(QUICK, data, tmp_path).result > 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("config"), r"KeyError\('config'\)"),
        (lambda state: state.pop("pruner"), r"KeyError\('pruner'\)"),
        (lambda state: state["pruner"].pop("weights"), "the checkpoint lacks 'weights'"),
        (lambda state: state["model"].popitem(), "Missing key"),
        (lambda state: state["optimization"].update(optimizer=3), "'int' object"),
        (lambda state: state.update(pruner=[]), "there is no state to go on from: the list is empty"),
    ],
    ids=["no config", "no pruner", "no weights", "no layer", "no optimizer", "another pruner"],
)
def test_a_checkpoint_that_lacks_something_is_named(data, tmp_path, change, message):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(13))
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    with pytest.raises(
        ValueError, match=rf"(?s)checkpoint\.pt is damaged \(.*({message}).*remove it to train"
    ):
        run(QUICK, data, tmp_path)


def test_options_edited_under_a_checkpoint_are_refused(data, tmp_path):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(13))
    with pytest.raises(ValueError, match=r"was trained with --epochs \S+, but --epochs 9 is wanted"):
        run(replace(QUICK, epochs=9), data, tmp_path)


def test_what_a_kill_left_half_written_goes_with_the_end_of_the_run(data, tmp_path):
    RunFolder(tmp_path).create(QUICK)
    (tmp_path / "checkpoint.pt.123.part").write_bytes(b"half")
    run(QUICK, data, tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_what_a_kill_left_half_written_goes_when_the_run_is_claimed_again(tmp_path):
    (tmp_path / "checkpoint.pt.123.part").write_bytes(b"half")
    assert RunFolder(tmp_path).claim()
    assert not list(tmp_path.glob("*.part"))


def test_the_saved_model_evaluates_to_the_saved_result(data, tmp_path):
    summary = run(QUICK, data, tmp_path)
    task = Classification(QUICK, data)
    RunFolder(tmp_path).load_model(task.model)
    assert task.evaluate().result == summary.result


def test_a_run_belongs_to_one_process_at_a_time(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    assert first.claim()
    assert not second.claim()
    first.release()
    assert second.claim()


def test_options_that_are_none_are_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json holds no options of a run"):
        RunFolder(tmp_path).config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "unknown options: epoch"),
        ({"mae": {"patchs": 3}}, r"unknown options: mae\.patchs"),
        ({"mae": 3}, "mae is 3, which is no mapping"),
    ],
)
def test_options_that_do_not_exist_are_named(tmp_path, options, message):
    folder = RunFolder(tmp_path)
    folder.create(TrainConfig(data="digits"))
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, **options}))
    with pytest.raises(ValueError, match=rf"config\.json holds no options of a run \({message}"):
        folder.config()


def test_options_that_were_added_later_have_their_defaults(tmp_path):
    folder = RunFolder(tmp_path)
    config = TrainConfig(data="digits", lr=0.7)
    folder.create(config)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["imbalance"], values["tabular"], values["mae"]["mask_ratio"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert folder.config() == config


def test_a_share_that_follows_from_the_policy_is_the_one_that_was_typed(tmp_path):
    folder = RunFolder(tmp_path)
    paper = TrainConfig(data="digits", policy="infobatch")
    folder.create(replace(paper, delta=0.875))
    folder.require(paper)
    with pytest.raises(ValueError, match=r"with --delta 0\.875, but --delta 1\.0 is wanted"):
        folder.require(replace(paper, delta=1.0))


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"data": "digits", "mae": {}}))
    with pytest.raises(
        ValueError, match=r"missing options: batch_size, epochs, lr, model, policy, seed"
    ):
        RunFolder(tmp_path).config()


def select_highest(scores, num):
    return set(Static(scores).ranked[:num].tolist())


def test_scores_are_kept_in_the_runs_folder(part, tmp_path, monkeypatch):
    config = replace(SCORED, policy="el2n", warmup_epochs=0, target=0.5)
    folder = RunFolder(tmp_path)
    folder.create(config)
    steps = iter(range(100))
    with pytest.raises(Interrupted):  # four questions while scoring, then at the first step
        train(config, part, folder, should_stop=lambda: next(steps) == 4)
    scores, seconds = folder.load_static_scores()
    assert scores.shape == (150,)
    assert seconds > 0
    monkeypatch.setattr(static_scores, "make_scores", None)  # would fail if it were called
    summary = train(config, part, folder)
    assert summary.num_scoring == pytest.approx(150 * 2 * 4 / 3)
    assert summary.cost == pytest.approx(0.5 * 4 * 150 + summary.num_scoring)
    assert summary.seconds > seconds
    kept = select_highest(scores, 75)
    assert set(np.flatnonzero(folder.scores()["visits"].numpy()).tolist()) == kept
    assert set(folder.scores()["visits"].tolist()) == {0, 4}


@pytest.mark.parametrize("content", [b"x", b"", b"PK\x03\x04cut off"])
def test_damaged_scores_are_refused(tmp_path, content):
    folder = RunFolder(tmp_path)
    (tmp_path / "static-scores.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"static-scores.npz is damaged .* remove it to make them anew"):
        folder.load_static_scores()


def test_scores_without_their_seconds_are_refused(tmp_path):
    np.savez(tmp_path / "static-scores.npz", scores=np.zeros(3))
    with pytest.raises(ValueError, match=r"static-scores.npz is damaged \(KeyError\('seconds"):
        RunFolder(tmp_path).load_static_scores()


@pytest.mark.parametrize("num_lines", [0, 2])
def test_a_finished_run_without_all_of_its_epochs_is_named(data, tmp_path, num_lines):
    run(QUICK, data, tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:num_lines]))
    with pytest.raises(ValueError, match=r"metrics.jsonl tells of [\d,]+ samples .* remove the run's"):
        RunFolder(tmp_path).metrics()


def test_a_run_does_not_go_on_without_the_epochs_before_its_checkpoint(data, tmp_path):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path, should_stop=stop_after(30))
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(
        ValueError, match=r"metrics.jsonl has 0 of the \d epochs .* restore it, or remove"
    ):
        run(QUICK, data, tmp_path)


def test_what_diverged_is_json_for_any_reader(tmp_path):
    folder = RunFolder(tmp_path)
    epoch = EpochMetrics(0, 9, 9, math.nan, math.inf, 10.0, 0.1, 0.2, 9, [None, math.nan])
    folder.write_metrics([epoch])
    json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    (read,) = folder.metrics()
    assert math.isnan(read.train_loss)
    assert (read.test_loss, read.result) == (None, 10.0)
