"""A training function of the user's, compared from the command line and from Python."""

import functools
import re
from pathlib import Path

import pytest
import torch

from infobatch.dynamics import read_dynamics
from infobatch.lab import compare
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.functions import GIVEN, load_function
from infobatch.lab.runs.folder import RunFolder

SCRIPT = Path(__file__).with_name("own_script.py")
TYPED = [f"{SCRIPT}:train", "--epochs", 4, "--batch-size", 32, "--lr", 0.3, "--seeds", 2]


def test_the_command_line_compares_a_function_of_a_file(call, tmp_path):
    options = [*TYPED, "--noise", 1.2, "--undersampling", "--out", tmp_path / "c"]
    code, output, error = call("compare", *options)
    assert code == 0, error
    assert "own_script.py:train, 4 epochs, batch 32" in output
    for arm in (
        "full data",
        "noise budget 1.2",
        "fewer epochs, same steps",
        "undersampling, same steps",
    ):
        assert re.search(rf"{arm} +\d+\.\d\d ± ", output)
    assert "Verdict" in output
    report = (tmp_path / "c" / "report" / "report.md").read_text()
    assert "![train-losses](train-losses.png)" in report
    assert "![scores]" not in report, "they are known at the end alone"
    command = next(line for line in report.splitlines() if line.startswith("infobatch compare"))
    assert "own_script.py:train" in command
    assert "--epochs 4 --batch-size 32" in command
    code, again, error = call("compare", "--out", tmp_path / "c", "--resume")
    assert code == 0, error
    assert again.split("Verdict")[1] == output.split("Verdict")[1]


def test_the_runs_of_a_function_are_recorded(call, tmp_path):
    code, _, error = call("compare", *TYPED, "--save", 30, "--record", "--out", tmp_path / "c")
    assert code == 0, error
    folders = [path.parent for path in tmp_path.rglob("summary.json")]
    assert len(folders) == 10
    for folder in folders:
        assert read_dynamics(folder).num_epochs == len(RunFolder(folder).metrics())


def test_a_margin_may_be_given_afterwards(call, tmp_path):
    options = ["--own.metric", "loss", "--save", 30, "--out", tmp_path / "c"]
    code, output, error = call("compare", *TYPED, *options)
    assert code == 0, error
    assert "Whether that is lossless --margin decides" in " ".join(output.split())
    code, output, error = call("compare", "--out", tmp_path / "c", "--resume", "--margin", 90)
    assert code == 0, error
    assert "Verdict  lossless: " in output
    assert Comparison.load(tmp_path / "c").margin == 90


def test_what_a_function_returned_may_be_named_afterwards(call, tmp_path):
    code, output, error = call("compare", *TYPED, "--save", 30, "--out", tmp_path / "c")
    assert code == 0, error
    assert "accuracy %" in output
    options = ["--own.metric", "regret", "--own.lower-is-better", "--margin", 0.5]
    code, again, error = call("compare", "--out", tmp_path / "c", "--resume", *options)
    assert code == 0, error
    assert "10 runs, 10 of them finished" in again
    assert "regret (lower is better)" in again
    found = [
        re.search(r"Verdict.* against full data ([+-])", " ".join(text.split()))
        for text in (output, again)
    ]
    assert found[0][1] == found[1][1], "of the same runs"
    code, _, error = call(
        "compare", "--out", tmp_path / "c", "--resume", "--own.train", "other.py:train"
    )
    assert code == 2
    assert "--own.train is other.py:train, but the run was started with" in " ".join(error.split())


def test_bad_functions_are_refused_before_anything_is_trained(call, tmp_path):
    for name, message in (
        (f"{SCRIPT}:trian", "has no function trian; it has train"),
        (f"{tmp_path}/none.py:train", "there is no file"),
    ):
        code, _, error = call("compare", name, "--epochs", 4, "--out", tmp_path / "c")
        assert code == 2
        assert message in error
        assert not (tmp_path / "c").exists()


def test_what_only_the_user_knows_has_to_be_given(call, tmp_path):
    code, _, error = call("compare", TYPED[0], "--epochs", 4, "--out", tmp_path / "c")
    assert code == 2
    said = " ".join(error.split())
    assert "batch size and learning rate from its run; give --batch-size, --lr, as you train" in said
    assert not (tmp_path / "c").exists()


def test_what_a_function_does_not_fetch_is_told(call, tmp_path):
    code, _, error = call("compare", *TYPED, "--policy", "kakurenbo", "--out", tmp_path / "c")
    assert code == 2
    said = " ".join(error.split())
    assert "and a training function does not fetch what is left out; take a policy" in said
    assert "or a task of the lab" in said


def test_python_compares_a_function_goes_on_and_adds_seeds(tmp_path):
    train = load_function(f"{SCRIPT}:train")

    calls = []

    def counted(run):
        calls.append((run.seed, run.epochs, run.batch_size, run.lr))
        return train(run)

    options = {"epochs": 4, "batch_size": 32, "lr": 0.3, "save": 30, "out": tmp_path / "c"}
    results = compare(counted, seeds=1, **options)
    assert results.rows()[0].label == "full data"
    assert len(calls) == 5  # pruned, full, fewer epochs at two rates, random
    assert {seed for seed, *_ in calls} == {0}
    assert len({epochs for _, epochs, *_ in calls}) == 2
    compare(counted, seeds=1, **options)
    assert len(calls) == 5
    more = compare(counted, seeds=2, **options)
    assert len(calls) == 10
    assert more.rows()[0].num_seeds == 2
    assert Comparison.load(tmp_path / "c").num_seeds == 2
    with pytest.raises(ValueError, match=r"--lr"):
        compare(counted, **{**options, "lr": 0.1})


def trained(run, result):
    assert run.lr > 0
    pruner = run.pruner(range(40))
    loader = pruner.loader(run.batch_size)
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(torch.ones(len(indices), requires_grad=True) + 0, indices).backward()
    return result


FEW = {"epochs": 2, "batch_size": 8, "lr": 0.1, "save": 30, "seeds": 1}


def test_python_knows_which_function_runs_are_of(tmp_path):
    """Two programs may have functions of one name, and a notebook's change."""

    def train(run):
        return trained(run, 50.0)

    compare(train, **FEW, out=tmp_path / "c")
    compare(train, **FEW, out=tmp_path / "c")

    def train(run):
        return trained(run, 60.0)

    with pytest.raises(ValueError, match=r"was trained by other code: the training function, or"):
        compare(train, **FEW, out=tmp_path / "c")


def test_python_knows_what_a_function_was_made_with(tmp_path):
    def same(value):
        return value

    def half(value):
        return value / 2

    def made(result, calls, inner):
        def train(run):
            calls.append(inner)
            return trained(run, inner(result))

        return train

    compare(made(50.0, [], same), **FEW, out=tmp_path / "c")
    calls = ["of another call"]
    compare(made(50.0, calls, same), **FEW, out=tmp_path / "c")
    assert len(calls) == 1, "it goes on, whatever its lists hold"
    for other in (made(20.0, [], same), made(50.0, [], half)):
        with pytest.raises(ValueError, match="trained by other code"):
            compare(other, **FEW, out=tmp_path / "c")


def test_python_keeps_the_controls_of_earlier_calls(tmp_path):
    def train(run):
        return trained(run, 50.0)

    options = {**FEW, "out": tmp_path / "c"}
    first = compare(train, **options, also=("same-steps",))
    more = compare(train, **{**options, "seeds": 2})
    assert Comparison.load(tmp_path / "c").also == ("same-steps",)
    assert [row.label for row in more.rows()] == [row.label for row in first.rows()]
    assert {row.num_seeds for row in more.rows()} == {2}


def test_python_takes_functions_alone(tmp_path):
    with pytest.raises(ValueError, match=r"train is functools\.partial\(.*; give a function, such as"):
        compare(functools.partial(trained, result=1), **FEW, out=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_what_was_begun_in_python_goes_on_there(call, tmp_path):
    compare(lambda run: trained(run, 50.0), **FEW, out=tmp_path / "c")
    GIVEN.clear()  # as in another process
    code, _, error = call("compare", "--out", tmp_path / "c", "--add-seeds", 1)
    assert code == 2
    assert "is a function of a Python program or notebook that called compare with it" in error


def test_an_error_of_the_function_is_told_with_its_place(call, tmp_path):
    script = tmp_path / "failing.py"
    script.write_text("def train(run):\n    run.pruner(range(40))\n    ['cat'].index('bird')\n")
    code, _, error = call("compare", f"{script}:train", *TYPED[1:], "--out", tmp_path / "c")
    assert code == 2
    assert "train fails: ValueError: 'bird' is not in list (line 3 of failing.py)" in error
    script = tmp_path / "importing.py"
    script.write_text("def train(run):\n    from PIL import Imagee\n")
    code, _, error = call("compare", f"{script}:train", *TYPED[1:], "--out", tmp_path / "d")
    assert code == 2
    assert "train fails: ImportError: cannot import name 'Imagee'" in error
    assert "pip install" not in error


def test_python_refuses_what_says_twice_how_much(tmp_path):
    with pytest.raises(ValueError, match="each says how much is left out"):
        compare(lambda run: 1.0, epochs=1, batch_size=8, lr=0.1, noise=1.1, save=30, out=tmp_path)
    with pytest.raises(ValueError, match="also has 'same'; choose from same-steps"):
        compare(lambda run: 1.0, epochs=1, batch_size=8, lr=0.1, also=("same",), out=tmp_path)
