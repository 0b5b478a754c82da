"""The commands that train: one run, a comparison, a sweep, a contest."""

import json
import re

import pytest

from helpers.commands import TYPED
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.report import read_comparison
from infobatch.lab.report.equal_cost import equal_cost_rows
from infobatch.lab.runs.folder import RunFolder

NAME = "mnist5k-small-cnn"


def test_train_leaves_a_new_folder_where_none_is_named(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, output, _ = call("train", *TYPED)
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "summary.json").exists()
    assert folder.name in output
    epochs = re.findall(
        r"^epoch (\d), \d+% kept, test accuracy \d+\.\d\d %(, noise 1\.\d\d)?$", output, re.M
    )
    assert [epoch for epoch, _ in epochs] == ["1", "2", "3"]
    assert [bool(noise) for _, noise in epochs] == [False, True, True]


def test_train_says_why_nothing_was_pruned(call, tmp_path):
    for name, typed, why in (
        ("ies", ["--policy", "ies"], "the policy left nothing out of the epochs that could be pruned"),
        ("short", ["--policy", "infobatch", "--epochs", 1], "no epoch could be pruned: warm-up"),
    ):
        code, output, error = call("train", *TYPED, *typed, "--out", tmp_path / name)
        assert code == 0, error
        assert f"Nothing was pruned: {why}" in " ".join(output.split())


def test_to_resume_a_finished_run_says_so(call, finished):
    code, printed, error = call("train", "--out", finished, "--resume")
    assert code == 0, error
    assert "finished before" in printed


def test_compare_ends_with_table_verdict_and_report(call, tmp_path):
    code, output, error = call("compare", *TYPED, "--seeds", 2, "--out", tmp_path / "c")
    assert code == 0, error
    assert re.search(r"full data +\d\d\.\d\d ± \d\.\d\d +4,200 +33 ", output)
    assert "Verdict" in output
    assert f"The report is {tmp_path / 'c' / 'report' / 'report.html'}" in output
    code, again, error = call("compare", "--out", tmp_path / "c", "--resume")
    assert code == 0, error
    assert again.split("Verdict")[1] == output.split("Verdict")[1]
    code, _, error = call("compare", *TYPED, "--out", tmp_path / "c")
    assert code == 2
    assert "already holds a comparison" in error


def test_seeds_are_added_to_a_comparison(call, tmp_path):
    out = ["--out", tmp_path / "c"]
    code, _, error = call("compare", *TYPED, "--seeds", 1, *out)
    assert code == 0, error
    more = (["--add-seeds", 1], 2), (["--resume", "--seeds", 3], 3), (["--resume"], 3)
    for options, num_seeds in more:
        code, output, error = call("compare", *options, *out)
        assert code == 0, error
        assert f"it covers the {num_seeds} seeds" in " ".join(output.split())
    for options, message in (
        (["--resume", "--seeds", 2], "--seeds is 2, and the comparison has 3 seeds, which are kept"),
        (["--add-seeds", 1, "--seeds", 4], "both say how many seeds there are to be"),
        (["--add-seeds", -1], "--add-seeds is -1; it must be at least 1"),
    ):
        code, _, error = call("compare", *options, *out)
        assert code == 2
        assert message in " ".join(error.split())


def test_a_sweep_stops_after_the_minutes_given(call, tmp_path):
    options = ["--data", "digits", "--epochs", 500, "--seeds", 1, "--minutes", 0.02]
    code, output, _ = call("sweep", NAME, *options, "--out", tmp_path / "my runs")
    assert code == 130
    again = f"infobatch sweep {NAME} {' '.join(map(str, options))} --out '{tmp_path}/my runs'"
    assert f"To go on: {again}\n" in output
    assert list(tmp_path.rglob("checkpoint.pt"))


def test_a_sweep_with_a_target_that_names_no_policy_is_of_the_one_that_meets_it(call, tmp_path):
    options = ["--data", "digits", "--epochs", 3, "--device", "cpu", "--seeds", 1, "--no-controls"]
    code, output, error = call("sweep", NAME, *options, "--target", 0.25, "--out", tmp_path)
    assert code == 0, error
    assert re.search(r"spaced, 25 % saved .*25\.\d%", output)
    assert "2 runs" in output


def test_a_running_run_is_not_trained_by_another(call, tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.claim()
    code, _, error = call("train", NAME, *TYPED, "--out", tmp_path / "run")
    assert code == 2
    assert "is being trained by another process" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", 1], "name a recipe to sweep"),
        ([NAME, "--prune-ratio", "half"], "--prune-ratio is 'half'; give numbers"),
        ([NAME, "--policies", "infobach"], "no policy 'infobach'; did you mean infobatch"),
        ([NAME, "--policies", "infobatch, infobach"], "no policy 'infobach'; did you mean infobatch"),
        (
            [NAME, "--policies", "noise-budget, noise-budget:max_noise=1.1"],
            "noise-budget:max_noise=1.1 is noise-budget, with options at their defaults; name it once",
        ),
        ([NAME, "--jobs", 0], "--jobs is 0"),
        ([NAME, "--minutes", -1], "--minutes is -1; it must be above 0"),
        (
            [NAME, "--policies", "infobatch", "--target", 0.3, "--prune-ratio", "0.7,0.1"],
            "can leave out at most",
        ),
        (
            [NAME, "--noise", 1.3, "--target", 0.3],
            "--noise is 1.3 and --target 0.3, and each says how much",
        ),
        (["cifar10-resnet17"], "no recipe 'cifar10-resnet17'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(call, tmp_path, arguments, message):
    code, _, error = call("sweep", *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_contest_ends_with_its_table(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--delta", 1, "--save", "25"]
    names = "infobatch,proportional, rs2,selective-backprop,rs2"
    options += ["--policies", names, "--seeds", 2, "--out", tmp_path]
    code, output, error = call("contest", *options)
    assert code == 0, error
    for name in ("InfoBatch r=0.5", "proportional", "RS2"):
        assert re.search(rf"{name}, 25 % saved .*25\.\d%", output)
    assert "RS2, 25 % saved (biased)" in output
    assert "selective backprop, 25 % saved (biased)" in output
    assert "against fewer epochs" in output
    assert "after Holm's correction" in " ".join(output.split())
    path = tmp_path / "mnist5k-small-cnn"
    assert (path / "report" / "costs.png").exists()
    for file in ("report.md", "report.html"):
        assert "against fewer epochs" in (path / "report" / file).read_text()
    results = read_comparison(path)
    rows = equal_cost_rows(results)
    labels = ["random pruning", "InfoBatch r=0.5", "proportional", "RS2", "selective backprop"]
    assert [row.label.split(",")[0] for row in rows] == labels
    assert [row.to_paper is None for row in rows] == [False, True, False, False, False]
    assert all(0 <= row.to_paper.p <= 1 for row in rows if row.to_paper)
    assert all(row.to_fewer.rival.startswith("fewer epochs") for row in rows)
    costs = [arm.mean("cost") for arm in results.pruned]
    assert costs == pytest.approx([0.75 * 4 * 1400] * 4, abs=2)
    assert "infobatch contest mnist5k-small-cnn" in results.commands[0]
    before = {file: file.stat().st_mtime_ns for file in path.rglob("summary.json")}
    code, output, _ = call("contest", *options)
    assert f"{len(before)} runs, {len(before)} of them finished" in output
    assert {file: file.stat().st_mtime_ns for file in path.rglob("summary.json")} == before


def test_a_policy_added_later_has_the_controls_that_are_there(call, tmp_path):
    options = ["--data", "digits", "--epochs", 3, "--device", "cpu", "--delta", 1, "--save", 25]
    options += ["--out", tmp_path]
    assert call("contest", *options, "--policies", "rs2", "--seeds", 2)[0] == 0
    code, output, error = call("contest", *options, "--policies", "random,proportional", "--seeds", 1)
    assert code == 0, error
    assert "5 runs, 3 of them finished" in output
    rows = [line.split() for line in output.splitlines() if "% saved" in line and "25.0%" in line]
    seeds = {" ".join(row[:2]): row[-1] for row in rows}
    assert seeds == {"fewer epochs": "2", "RS2, 25": "2", "random, 25": "1", "proportional, 25": "1"}


def test_options_of_a_policy_are_told_in_the_table(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--delta", 1, "--save", 25]
    policies = "neyman:strata=5,proportional:by=gradient_norm"
    options += ["--policies", policies, "--seeds", 1, "--no-controls", "--out", tmp_path]
    code, output, error = call("contest", *options)
    assert code == 0, error
    assert re.search(r"Neyman strata=5, 25 % saved .*25\.\d%", output)
    assert re.search(r"proportional by=gradient_norm, 25 % saved .*25\.\d%", output)
    results = read_comparison(tmp_path / "mnist5k-small-cnn")
    assert f"--policies {policies}" in results.commands[0]


def test_a_contest_of_a_budget_ends_with_its_noise_and_all_controls(call, tmp_path):
    options = ["--data", "digits", "--epochs", 5, "--device", "cpu", "--seeds", 1, "--out", tmp_path]
    options += ["--policies", "noise-budget,random", "--noise", "1.5", "--save", 25]
    code, output, error = call("contest", *options)
    assert code == 0, error
    assert re.search(r"noise budget 1\.5 .* 1\.\d\d \(1\.5\)", output)
    assert re.search(r"random, 25 % saved .*25\.\d% +1\.\d\d", output)
    for kind in ("fewer epochs, same steps", "random pruning, same steps"):
        assert f"{kind}, as noise budget 1.5" in output
    assert re.search(r"fewer epochs( lr↑)?, 25 % saved", output)
    path = tmp_path / "mnist5k-small-cnn"
    assert "--noise 1.5" in read_comparison(path).commands[0]
    runs = json.loads((path / "report" / "runs.json").read_text())["runs"]
    (budgeted,) = (run for run in runs if run["arm"].startswith("noise-budget-max_noise-1.5/pruned"))
    assert 1 < budgeted["mean_noise"] <= budgeted["most_noise"] < 2
    assert [noise is None for noise in budgeted["noise"]] == [True, False, False, False, False]
    fewer = next(run for run in runs if "1.5/fewer-epochs" in run["arm"])
    assert "noise" not in fewer, "its last epoch is cut short, not pruned"


def test_compare_and_sweep_take_budgets_too(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--seeds", 1]
    code, output, error = call("compare", *options, "--noise", 1.5, "--out", tmp_path / "c")
    assert code == 0, error
    assert output.startswith("6 runs, 0 of them finished")
    assert "against fewer epochs, same steps" in " ".join(output.split())
    options += ["--policies", "noise-budget", "--noise", "1.2,1.5,2", "--no-controls"]
    code, output, error = call("sweep", NAME, *options, "--out", tmp_path / "s")
    assert code == 0, error
    assert re.search(r"noise budget 1\.2 .* \(1\.2\)", output)
    assert re.search(r"noise budget 1\.5 .* \(1\.5\)", output)
    assert len([*tmp_path.glob("s/*/report/costs.png")]) == 1, "the budgets' curve"


def test_a_sweep_of_budgets_is_of_them_alone_unless_ratios_are_typed(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--seeds", 1, "--noise", "1.2,1.5"]
    for more, arms in (([], 2), (["--prune-ratio", 0.5], 3)):
        code, output, error = call(
            "sweep", NAME, *options, *more, "--no-controls", "--out", tmp_path / f"{arms}"
        )
        assert code == 0, error
        assert f"{NAME}: {1 + arms} runs, 0 of them finished" in output
        assert ("InfoBatch" in output) == bool(more)


def test_the_same_steps_can_be_asked_for(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--seeds", 1, "--delta", 1]
    options += ["--policies", "rs2", "--save", 25, "--same-steps", "--out", tmp_path]
    code, output, error = call("contest", *options)
    assert code == 0, error
    (steps,) = re.findall(r"fewer epochs, same steps, 25 % saved .* 4,200 +(\d+) ", output)
    assert int(steps) == 45, "3 epochs of 15, where full data has 4 of 11"
    assert "random pruning, 25 % saved" in output


def test_controls_that_would_not_be_trained_are_refused(call, tmp_path):
    options = ["--data", "digits", "--epochs", 2, "--device", "cpu", "--seeds", 1]
    code, _, error = call("contest", *options, "--undersampling", "--no-controls", "--out", tmp_path)
    assert code == 2
    assert "--undersampling asks for a control, and --no-controls for none" in " ".join(error.split())
    variant = Variant("random", 0.5)
    Comparison(TrainConfig(data="digits", device="cpu"), (variant,), 1, None, tmp_path / "c").create()
    code, _, error = call("compare", "--resume", "--same-steps", "--out", tmp_path / "c")
    assert code == 2
    assert "--same-steps asks for a control, and the comparison was started" in " ".join(error.split())


def test_bad_contests_are_refused(call, tmp_path):
    for options, message in (
        (["--save", "x"], "--save is 'x'; give numbers, such as 30,50,70"),
        (["--save", "0.3"], "--save is '0.3'; give percentages from 1 on"),
        (["--drop-last"], "by which the costs would differ"),
        (["--save", "99"], "cannot be met by any policy"),
        (["--policies", "none"], "none of the policies named can take part"),
        (["--policies", "infobatch,neyman:floor=5"], "floor is 5"),
        (["--policies", "infobatch,proportional:flor=0.1"], "did you mean floor"),
        (["--policies", "proportional,proportional:floor=0.3"], "is proportional, with options at"),
        (["--policies", "selective-backprop:share=0.5"], "is given as selective-backprop"),
        (["--policies", "proxy-filtering"], "as proxy-filtering:proxy=speed-cnn-narrow"),
        (["--jobs", 0], "--jobs is 0"),
        (["--noise", "1.1", "--policies", "rs2"], "none of the policies rs2 has a budget of noise"),
        (["--noise", "1", "--policies", "noise-budget"], "--noise is 1; it is the noise of a step"),
        (["--noise", "low"], "--noise is 'low'; give numbers, such as 1.05,1.1,1.5"),
        (
            ["--noise", "1.1", "--save", "30", "--policies", "noise-budget"],
            "--noise is 1.1 and --save 30, and each says how much is left out; give one of them",
        ),
    ):
        code, _, error = call("contest", "--data", "digits", *options, "--out", tmp_path / "c")
        assert code == 2
        assert message in error
        assert not (tmp_path / "c").exists()
