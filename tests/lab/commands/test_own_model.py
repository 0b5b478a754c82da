"""Images, a model and a transform of the user's, from the command line."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.images import picture
from infobatch.lab.runs.folder import RunFolder

CLASSES = ("[bold] rosen", "tulpen ü", "n03")


@pytest.fixture
def typed(tmp_path):
    """What is typed to train a model of a file on images in folders whose names look like markup."""
    root = tmp_path / "my [/x] images"
    for split, count in (("train", 12), ("valid", 3)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                (root / split / name / f"{i}.jpg").write_bytes(picture(label, i, size=(24, 16)))
    script = tmp_path / f"own_model_{time.monotonic_ns()}.py"  # a file is imported once in a process
    shutil.copy(Path(__file__).with_name("own_model.py"), script)
    return [
        *("--data", "images", "--data-dir", root, "--image-size", 16, "--device", "cpu"),
        *("--model", f"{script}:make", "--transform", f"{script}:views"),
        *("--epochs", 3, "--batch-size", 12, "--delta", 1),
    ]


def test_a_model_and_a_transform_are_compared_on_own_images(call, typed, tmp_path):
    out = tmp_path / "out [/y]"
    code, output, error = call("compare", *typed, "--seeds", 1, "--workers", 0, "--out", out)
    assert code == 0, error
    words = " ".join(output.split())
    assert "images: 36 images of 3 classes to train on, and 9 of valid to evaluate on" in words
    assert f"The report is {out}/report/report.html" in output
    report = (out / "report" / "report.md").read_text()
    assert report.startswith("# own_model_")
    assert "--image-size 16" in report
    pruned = out / "noise-budget" / "pruned" / "seed-0"
    assert RunFolder(pruned).summary().saved > 0
    code, output, error = call("eval", pruned)
    assert code == 0, error
    assert all(name in output for name in CLASSES)
    code, again, error = call("compare", "--out", out, "--resume")
    assert code == 0, error
    assert "Verdict" in again


def test_other_code_is_not_taken_for_the_same_run(call, typed, tmp_path):
    run = tmp_path / "run"
    code, _, error = call("train", *typed, "--workers", 0, "--out", run)
    assert code == 0, error
    script = Path(str(typed[typed.index("--model") + 1]).partition(":")[0])
    script.write_text(script.read_text() + "\n# other code\n")
    for command in (["eval", run], ["train", "--out", run, "--resume"]):
        code, _, error = call(*command)
        assert code == 2
        assert "py:views has changed since the run was started; put it back" in error
    other = replace(RunFolder(run).config(), source="--model 0, --transform 0")
    with pytest.raises(ValueError, match=r"trained by other code: .* a file of --model or --transform"):
        RunFolder(run).require(other)


def test_runs_of_other_models_are_not_reported_together(call, typed, tmp_path):
    for name, options in (("own", []), ("small", ["--model", "small-cnn"])):
        code, _, error = call("train", *typed, *options, "--workers", 0, "--out", tmp_path / name)
        assert code == 0, error
    code, _, error = call("report", tmp_path / "own", tmp_path / "small")
    assert code == 2
    assert "these runs differ in --model (" in error
    assert "py:make and small-cnn), and a report is of one network" in error


def test_results_do_not_depend_on_the_number_of_workers(call, typed, tmp_path):
    losses = []
    for name, options in (("none", ["--workers", 0]), ("default", [])):
        code, _, error = call("train", *typed, *options, "--out", tmp_path / name)
        assert code == 0, error
        losses.append(RunFolder(tmp_path / name).summary().test_loss)
    assert losses[0] == losses[1]


def test_an_image_that_a_loader_process_cannot_read_is_told_in_a_line_at_once(typed, tmp_path):
    broken = typed[3] / "train" / "n03" / "0.jpg"
    broken.write_bytes(b"no image")
    command = [sys.executable, "-m", "infobatch.lab.cli", "train", *typed, "--workers", 1]
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "run")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"infobatch: {broken} is not a readable image (of no known format); replace it, or remove it"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--data", "digits", "--image-size", 32],
            "--image-size is 32, and is for images",
        ),
        (["--data", "images", "--image-size", 4], "--image-size is 4; it must be at least 8"),
        (
            ["--data", "images", "--model", "none.py:make"],
            "none.py cannot be imported (there",
        ),
        (["--data", "images", "--transform", "views"], "'views' names no function; give FILE.py:NAME"),
        (["--data", "digits", "--test", "val"], "--test is val, and is for images that are decoded"),
        (
            ["--data", "images", "--test", "train"],
            "judged by what they were trained on",
        ),
        (["--data", "digits", "--pretrained"], "--pretrained is for models of timm and transformers"),
    ],
)
def test_options_that_do_not_fit_are_refused(call, tmp_path, options, message):
    code, _, error = call("train", *options, "--data-dir", tmp_path, "--out", tmp_path / "run")
    assert code == 2
    assert message in error
    assert not (tmp_path / "run").exists()
