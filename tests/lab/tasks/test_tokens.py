"""Instructions become tokens."""

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers.explorer import record
from helpers.tuning import MARKS, QUICK, rows
from infobatch.dynamics import read_dynamics
from infobatch.dynamics.coreset import coreset as choose_coreset
from infobatch.lab.commands import loading
from infobatch.lab.explorer.contents import contents_of
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.tokens import prompt_of
from infobatch.lab.training.validate import check_config, check_run

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("tyro")


pytestmark = MARKS


@pytest.fixture
def config(instructions):
    return replace(QUICK, data_dir=instructions)


def test_the_prompt_is_alpacas(config):
    data = loading.load(config)
    text = data.tokenizer.decode(data.train[0].tokens[: data.train[0].num_prompt])
    assert text == prompt_of(data.train[0].row)
    assert text.endswith("### Instruction:\nTurn it around.\n\n### Input:\nab\n\n### Response:\n")
    assert "### Input" not in prompt_of(data.train[1].row)


def test_bad_rows_are_refused_or_left_out_and_counted(config, tmp_path):
    made = rows(12, 0)
    made[3]["output"] = "  "
    made[8]["input"] = "word " * 400
    (tmp_path / "train.json").write_text(json.dumps(made))
    (tmp_path / "test.json").write_text(json.dumps(rows(4, 1)))
    config = replace(config, data_dir=tmp_path)
    with pytest.raises(
        ValueError, match=r"row 3 \(from 0\) of train\.json: the output is empty .*--tuning\.skip-bad"
    ):
        loading.load(config)
    made[3]["output"] = "0"
    (tmp_path / "train.json").write_text(json.dumps(made))
    with pytest.raises(
        ValueError,
        match=r"row 8 \(from 0\) of train\.json: the prompt alone fills --tuning\.max-length 192",
    ):
        loading.load(config)
    data = loading.load(replace(config, tuning=replace(config.tuning, skip_bad=True)))
    assert data.notes == (
        "1 of 12 training rows are left out: the prompt alone fills --tuning.max-length 192",
    )
    assert (len(data.train), len(data.test)) == (11, 4)


@pytest.mark.parametrize("has_test_split", [True, False])
def test_samples_have_the_numbers_that_a_subset_is_read_by(call, config, tmp_path, has_test_split):
    made = rows(30, 0)
    made[3]["output"] = made[11]["output"] = "  "
    (tmp_path / "train.json").write_text(json.dumps(made))
    if has_test_split:
        (tmp_path / "test.json").write_text(json.dumps(rows(4, 1)))
    tuning = replace(config.tuning, skip_bad=True)
    config, file = replace(config, data_dir=tmp_path, tuning=tuning), tmp_path / "half.json"
    folder, trained = RunFolder(tmp_path / "run"), loading.load(config).train
    folder.create(config)
    record(folder.path, len(trained))
    assert call("coreset", folder.path, "--keep", 0.5, "--out", file)[0] == 0
    chosen = choose_coreset(read_dynamics(folder.path).signals(), 0.5)
    again = loading.load(replace(config, subset=file))
    places = [example.row.place for example in again.train]
    assert places == [trained[index].row.place for index in chosen]
    numbers = contents_of(loading.load(config)).origin
    assert json.loads(file.read_text()) == numbers[chosen].tolist()


def test_without_a_test_split_a_tenth_is_held_out(config, tmp_path):
    (tmp_path / "alpaca.json").write_text(json.dumps(rows(42, 0)))
    data = loading.load(replace(config, data_dir=tmp_path))
    assert (len(data.train), len(data.test)) == (38, 4)
    places = {example.row.place for example in (*data.train, *data.test)}
    assert len(places) == 42


def test_answers_are_cut_off_at_the_longest(config):
    config = replace(config, tuning=replace(config.tuning, max_length=128))
    data = loading.load(config)
    assert max(len(example.tokens) for example in data.train) <= 128


def test_bad_files_are_refused_by_name(config, tmp_path):
    path = tmp_path / "train.jsonl"
    config = replace(config, data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="no parquet, JSON or JSON lines of instructions in"):
        loading.load(config)
    for text, message in [
        ('{"instruction": "x", "answer": "y"}', r"columns instruction, answer, but no 'output'"),
        (
            '{"instruction": "x", "output": 3}',
            r"row 0 \(from 0\) of train\.jsonl has the output 3; it must be text",
        ),
        ("[1, 2", r"train\.jsonl cannot be read"),
        ("[1, 2]", "holds no list of objects"),
        ("", "holds no rows"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            loading.load(config)


def test_what_depends_on_the_data_is_refused_before_training(config, tmp_path):
    with pytest.raises(ValueError, match=r"max-length is 4,096, but llama-tiny takes 2,048 tokens"):
        loading.load(replace(config, tuning=replace(config.tuning, max_length=4096)))
    np.savez(tmp_path / "scores.npz", last_loss=np.ones(7, np.float32))
    given = replace(config, prior_scores=str(tmp_path / "scores.npz"), warmup_epochs=0)
    check_config(given)
    with pytest.raises(
        ValueError, match=r"scores of .*scores\.npz have shape \(7,\), and .* 42 samples"
    ):
        check_run(given, loading.load(given))
    with pytest.raises(FileNotFoundError, match="no such file; give pass, or the scores"):
        check_config(replace(given, prior_scores="nowhere.npz"))
