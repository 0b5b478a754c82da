import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.contest import CONTESTANTS, contestants
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.config.policy_spec import SELECTIVE_BACKPROP
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.recipes import find_recipe
from infobatch.lab.report import read_comparison
from infobatch.lab.report.arms import ArmRuns, Run
from infobatch.lab.report.equal_cost import equal_cost_rows
from infobatch.lab.report.paired import holm, p_text, p_value
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import EpochMetrics, Summary
from infobatch.lab.training.train import train
from infobatch.policies import BELOW_MEAN, POLICIES

CONFIG = find_recipe("mnist5k-small-cnn").config()
NAN = float("nan")


def labels(num_samples):
    return torch.arange(num_samples) % 10


def test_holms_correction_is_that_of_a_worked_example():
    # Holm (1979): 0.01 x 4, 0.013 x 3, 0.014 x 2, 0.19 x 1, never falling, at most 1.
    assert holm([0.014, 0.01, 0.19, 0.013]) == pytest.approx([0.04, 0.04, 0.19, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    corrected = holm([0.02, NAN, 0.03])
    assert [corrected[0], corrected[2]] == pytest.approx([0.04, 0.04])
    assert corrected[1] != corrected[1]
    assert holm([]) == []


def runs_with(accuracies):
    """An arm with these accuracies, one a seed."""
    runs = {s: Run(CONFIG, SimpleNamespace(result=a), ()) for s, a in enumerate(accuracies)}
    return ArmRuns(Arm("full"), "", runs)


def test_p_is_that_of_a_paired_t_test_and_needs_a_spread():
    rival = runs_with([90.0, 91.0, 92.0])
    # Differences 1, 2 and 3: t = 2 / (1 / sqrt(3)) with two degrees of freedom.
    assert p_value(runs_with([91.0, 93.0, 95.0]), rival) == pytest.approx(0.0742, abs=1e-4)
    assert p_value(rival, rival) == 1
    assert math.isnan(p_value(runs_with([90.7, 91.7, 92.7]), rival))
    assert math.isnan(p_value(runs_with([99.0]), rival))
    assert [p_text(p) for p in (0.27, 0.0006, 1e-7, NAN)] == ["0.270", "0.001", "<0.001", ""]


def test_every_policy_that_can_meets_every_saving():
    variants, reasons = contestants(CONFIG, CONTESTANTS, [0.3, 0.5], 5000, labels(5000))
    names = {variant.name for variant in variants}
    assert {f"{name}-save-30" for name in CONTESTANTS if name not in BELOW_MEAN} < names
    assert {"infobatch-0.5-save-30", "bls-0.812-save-50"} < names
    assert "percentile-tiers-save-50" not in names
    told = "percentile-tiers does not take part at 50 % saved: the target leaves out"
    assert sum(reason.startswith(told) for reason in reasons) == 1
    assert {variant.policy for variant in variants} == set(POLICIES) - {"none"} | {SELECTIVE_BACKPROP}


@pytest.mark.parametrize("name", ["kakurenbo", "ies", SELECTIVE_BACKPROP, "rs2"])
def test_forward_passes_are_paid_for(name, tmp_path):
    """Of 6 epochs of 1,400 samples 4 can be pruned, and 8,400 x 0.8 are to be paid for."""
    config = TrainConfig(data="digits", epochs=6, batch_size=128, device="cpu")
    variant = Variant(name, 0.5, 0.2)
    folder = RunFolder(tmp_path)
    folder.create(variant.config(config))
    summary = train(variant.config(config), load_data("digits"), folder)
    left_out = {"rs2": 1680, SELECTIVE_BACKPROP: 1680 + 4 * 1400 / 3}.get(name, 1.5 * 1680)
    looks = {"rs2": 0, SELECTIVE_BACKPROP: 4 * 1400}.get(name, 1.5 * 1680)
    assert summary.num_trained == pytest.approx(8400 - left_out, abs=2)
    assert summary.num_forward == pytest.approx(looks, abs=2)
    assert summary.cost == pytest.approx(0.8 * 8400, abs=1)
    metrics = folder.metrics()
    assert [m.num_forward > 0 for m in metrics] == [name != "rs2" and 0 < m.epoch < 5 for m in metrics]


def test_what_looking_makes_impossible_is_said():
    config = replace(CONFIG, epochs=8)
    variants, reasons = contestants(
        config, ["ies", SELECTIVE_BACKPROP, "rs2"], [0.3, 0.6, 0.7], 5000, labels(5000)
    )
    assert [variant.target for variant in variants] == [0.3, 0.3, 0.3, 0.6, 0.7]
    for told in (
        "ies does not take part at 60 % saved: it looks at what it leaves out, which costs 33% of what "
        "that saves, and would have to leave out 90%: target 0.9 cannot be met",
        "ies does not take part at 70 % saved: it looks at what it leaves out, which costs 33% of what "
        "that saves, and would have to leave out 105%: target is 1.05",
        "selective-backprop does not take part at 60 % saved: it looks at all samples, which costs 33% "
        "of training on them, and to save 60% could train on only 0.0% of a batch; lower the saving",
    ):
        assert any(reason.startswith(told) for reason in reasons), (told, reasons)


def test_controls_are_given_what_was_computed_not_only_what_was_trained(tmp_path):
    variant = Variant("kakurenbo", 0.3)
    comparison = Comparison(replace(CONFIG, epochs=3), (variant,), 1, 0.5, tmp_path)
    folder = comparison.folder(Arm("pruned", variant), 0)
    folder.create(comparison.pruned_config(variant))
    others = (0.1, 0.1, 90.0, 1.0, 0.1, 0, [])
    counts = [(100, 0), (70, 30), (100, 0)]
    folder.write_metrics(
        [
            EpochMetrics(epoch, kept, 100, *others, num_forward=looks)
            for epoch, (kept, looks) in enumerate(counts)
        ]
    )
    folder.write_summary(Summary(90.0, 0.1, [], 270, 300, 30, 0.1, 0.1, 0, {}, num_forward=30))
    assert comparison.run_config(Arm("random", variant), 0).target == (0, 20, 0)
    assert comparison.run_config(Arm("fewer-epochs", variant), 0).epochs == pytest.approx(2.8)


def test_infobatch_meets_a_saving_by_a_ratio_that_still_tells_samples_apart():
    config = replace(CONFIG, epochs=100)  # 87 of them can be pruned
    variants, _ = contestants(config, ["infobatch"], [0.3, 0.5, 0.7], 10_000, labels(10_000))
    ratios = [variant.prune_ratio for variant in variants]
    expected = [0.5, 0.5 / 0.87 / 0.75, (0.7 / 0.87 + 1) / 2]
    assert ratios == pytest.approx(expected, abs=0.001)
    for share, ratio in zip((0.3, 0.5, 0.7), ratios, strict=True):
        assert share / 0.87 / ratio < 0.95  # of the samples are well learned, not all


def test_a_very_short_last_batch_is_told_of():
    config = replace(CONFIG, epochs=6, batch_size=128)
    _, reasons = contestants(
        config, ["random"], [0.3], 1400, labels(1400)
    )  # 770 kept of 4 epochs: 6 x 128 + 2
    assert reasons[0].startswith("At 30 % saved pruned epochs end with a batch of 2 samples")
    assert not contestants(replace(config, batch_size=110), ["random"], [0.3], 1400, labels(1400))[1]


def test_a_saving_out_of_reach_says_which_could_be_met():
    with pytest.raises(ValueError, match=r"target 0\.95 cannot be met by any policy.* at most 0\.\d"):
        contestants(CONFIG, ["random"], [0.95], 5000, labels(5000))
    with pytest.raises(ValueError, match="no policy 'ucbb'; did you mean ucb"):
        contestants(CONFIG, ["ucbb"], [0.3], 5000, labels(5000))


def test_policies_of_one_cost_share_its_controls(tmp_path):
    variants = [Variant(name, 0.5, share) for share in (0.3, 0.5) for name in ("infobatch", "rs2")]
    comparison = Comparison(CONFIG, tuple(variants), 1, 0.5, tmp_path)
    arms = [arm.name for arm in comparison.arms if arm.kind != "pruned"]
    assert arms == [
        "full",
        *(
            f"save-{share}/{kind}"
            for share in (30, 50)
            for kind in ("fewer-epochs", "fewer-epochs-lr", "random")
        ),
    ]
    with_random = replace(comparison, variants=(*variants, Variant("random", 0.5, 0.3)))
    assert Arm("random", Variant("", target=0.3)) not in with_random.arms
    assert Arm("random", Variant("", target=0.5)) in with_random.arms


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
        (["--policies", "selective-backprop:share=0.5"], "has no options"),
        (["--jobs", 0], "--jobs is 0"),
    ):
        code, _, error = call("contest", "--data", "digits", *options, "--out", tmp_path / "c")
        assert code == 2
        assert message in error
        assert not (tmp_path / "c").exists()
