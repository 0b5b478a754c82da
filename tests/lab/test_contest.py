import re
from dataclasses import replace

import pytest
import torch

from infobatch.lab.compare import Arm, Comparison, Variant
from infobatch.lab.contest import CONTESTANTS, contestants
from infobatch.lab.recipes import find_recipe
from infobatch.lab.report import read_comparison
from infobatch.lab.report.duels import holm, standings
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


def test_every_policy_that_can_meets_every_saving():
    variants, reasons = contestants(CONFIG, CONTESTANTS, [0.3, 0.5], labels(5000))
    names = {variant.name for variant in variants}
    assert {f"{name}-save-30" for name in CONTESTANTS if name not in BELOW_MEAN} < names
    assert {"infobatch-0.5-save-30", "bls-0.812-save-50"} < names
    assert "percentile-tiers-save-50" not in names
    (reason,) = reasons
    assert reason.startswith("percentile-tiers does not take part at 50 % saved: the target leaves out")
    assert {variant.policy for variant in variants} == set(POLICIES) - {"none"}


def test_infobatch_meets_a_saving_by_a_ratio_that_still_tells_samples_apart():
    config = replace(CONFIG, epochs=100)  # 87 of them can be pruned
    variants, _ = contestants(config, ["infobatch"], [0.3, 0.5, 0.7], labels(10_000))
    ratios = [variant.prune_ratio for variant in variants]
    expected = [0.5, 0.5 / 0.87 / 0.75, (0.7 / 0.87 + 1) / 2]
    assert ratios == pytest.approx(expected, abs=0.001)
    for share, ratio in zip((0.3, 0.5, 0.7), ratios, strict=True):
        assert share / 0.87 / ratio < 0.95  # of the samples are well learned, not all


def test_a_very_short_last_batch_is_told_of():
    config = replace(CONFIG, epochs=6, batch_size=128)
    _, reasons = contestants(
        config, ["random"], [0.3], labels(1400)
    )  # 770 kept of 4 epochs: 6 x 128 + 2
    assert reasons[0].startswith("At 30 % saved pruned epochs end with a batch of 2 samples")
    assert not contestants(replace(config, batch_size=110), ["random"], [0.3], labels(1400))[1]


def test_a_saving_out_of_reach_says_which_could_be_met():
    with pytest.raises(
        ValueError, match=r"target 0\.95 cannot be met by any prune ratio.* at most 0\.\d"
    ):
        contestants(CONFIG, ["random"], [0.95], labels(5000))
    with pytest.raises(ValueError, match="no policy 'ucbb'; did you mean ucb"):
        contestants(CONFIG, ["ucbb"], [0.3], labels(5000))


def test_policies_of_one_cost_share_its_controls(tmp_path):
    variants = [Variant(name, 0.5, share) for share in (0.3, 0.5) for name in ("infobatch", "rs2")]
    comparison = Comparison(CONFIG, tuple(variants), 1, 0.5, tmp_path)
    arms = [arm.name for arm in comparison.arms if arm.kind != "pruned"]
    assert arms == [
        "full",
        *(
            f"infobatch-0.5-save-{share}/{kind}"
            for share in (30, 50)
            for kind in ("fewer-epochs", "fewer-epochs-lr", "random")
        ),
    ]
    with_random = replace(comparison, variants=(*variants, Variant("random", 0.5, 0.3)))
    assert Arm("random", variants[0]) not in with_random.arms
    assert Arm("random", variants[2]) in with_random.arms


def test_a_contest_ends_with_its_table(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--delta", 1, "--save", "25"]
    options += ["--policies", "infobatch,proportional,rs2", "--seeds", 2, "--out", tmp_path]
    code, output, error = call("contest", *options)
    assert code == 0, error
    for name in ("InfoBatch r=0.5", "proportional", "RS2"):
        assert re.search(rf"{name}, 25 % saved .*25\.\d%", output)
    assert "RS2, 25 % saved (biased)" in output
    assert "against fewer epochs" in output
    assert "after Holm's correction" in " ".join(output.split())
    path = tmp_path / "mnist5k-small-cnn"
    assert (path / "report" / "costs.png").exists()
    results = read_comparison(path)
    rows = standings(results)
    assert [row.label.split(",")[0] for row in rows] == ["InfoBatch r=0.5", "proportional", "RS2"]
    assert rows[0].to_paper is None
    assert all(0 <= row.to_paper.p <= 1 for row in rows[1:])
    assert all(row.to_fewer.rival.startswith("fewer epochs") for row in rows)
    trained = {arm.mean("num_trained") for arm in results.pruned}
    assert len(trained) == 1  # the same cost
    assert "infobatch contest mnist5k-small-cnn" in results.commands[0]
    before = {file: file.stat().st_mtime_ns for file in path.rglob("summary.json")}
    code, output, _ = call("contest", *options)
    assert f"{len(before)} runs, {len(before)} of them finished" in output
    assert {file: file.stat().st_mtime_ns for file in path.rglob("summary.json")} == before


def test_bad_contests_are_refused(call, tmp_path):
    for options, message in (
        (["--save", "x"], "--save is 'x'; give numbers, such as 30,50,70"),
        (["--save", "0.3"], "--save is '0.3'; give percentages from 1 on"),
        (["--drop-last"], "by which the costs would differ"),
        (["--save", "99"], "cannot be met by any prune ratio"),
        (["--policies", "none"], "there is nothing to compare with full data"),
        (["--jobs", 0], "--jobs is 0"),
    ):
        code, _, error = call("contest", "--data", "digits", *options, "--out", tmp_path / "c")
        assert code == 2
        assert message in error
        assert not (tmp_path / "c").exists()
