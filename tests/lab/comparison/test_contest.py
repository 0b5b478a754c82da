"""Which policies take part in a contest, and at which savings."""

from dataclasses import replace

import pytest
import torch

from helpers.comparisons import CONTEST
from helpers.digits import LOOKING, SCORED, STATIC
from infobatch.lab.comparison.contest import CONTESTANTS, contestants
from infobatch.lab.config.policy_spec import BELOW_MEAN, SELECTIVE_BACKPROP
from infobatch.lab.report import read_comparison
from infobatch.lab.runs.folder import RunFolder
from infobatch.policies import POLICIES


def labels(num_samples):
    return torch.arange(num_samples) % 10


def test_every_policy_that_can_meets_every_saving():
    variants, reasons = contestants(CONTEST, CONTESTANTS, [0.3, 0.5, 0.7], 5000, labels(5000))
    names = {variant.name for variant in variants}
    assert {f"{name}-save-30" for name in CONTESTANTS if name not in BELOW_MEAN} < names
    assert {"infobatch-0.5-save-30", "bls-0.741-save-50"} < names
    assert "percentile-tiers-save-50" in names
    assert "percentile-tiers-save-70" not in names
    told = "percentile-tiers does not take part at 70 % saved: the target leaves out"
    assert sum(reason.startswith(told) for reason in reasons) == 1
    assert {variant.policy for variant in variants} == set(POLICIES) - {"none"} | {SELECTIVE_BACKPROP}


def test_budgets_of_noise_take_the_place_of_savings():
    policies = ["random", "noise-budget"]
    variants, _ = contestants(CONTEST, policies, [0.3], 5000, noises=[1.05, 1.5])
    assert [(variant.policy, variant.target) for variant in variants] == [
        ("noise-budget:max_noise=1.05", None),
        ("noise-budget:max_noise=1.5", None),
        ("random", 0.3),
    ]
    (only,), reasons = contestants(CONTEST, ["noise-budget"], [0.3], 5000, noises=[1.1])
    assert only.target is None
    assert not reasons
    with pytest.raises(ValueError, match="none of the policies random has a budget of noise"):
        contestants(CONTEST, ["random"], [0.3], 5000, noises=[1.1])


def test_what_forward_passes_make_impossible_is_said():
    config = replace(CONTEST, epochs=8)
    variants, reasons = contestants(
        config, ["ies", SELECTIVE_BACKPROP, "rs2"], [0.3, 0.6, 0.7], 5000, labels(5000)
    )
    assert [variant.target for variant in variants] == [0.3, 0.3, 0.3, 0.6, 0.7]
    for told in (
        "ies does not take part at 60 % saved: it runs the model on what it leaves out, which costs 33% "
        "of what that saves, and would have to leave out 90%: target 0.9 cannot be met",
        "ies does not take part at 70 % saved: it runs the model on what it leaves out, which costs 33% "
        "of what that saves, and would have to leave out 105%: target is 1.05",
        "selective-backprop does not take part at 60 % saved: it runs the model on all samples, which "
        "costs 33% of training on them, and to save 60% could train on only 0.0% of a batch; "
        "lower the saving",
    ):
        assert any(reason.startswith(told) for reason in reasons), (told, reasons)


def test_infobatch_meets_a_saving_by_a_ratio_that_still_tells_samples_apart():
    config = replace(CONTEST, epochs=100)  # 99 of them can be pruned
    variants, _ = contestants(config, ["infobatch"], [0.3, 0.5, 0.7], 10_000, labels(10_000))
    ratios = [variant.prune_ratio for variant in variants]
    expected = [0.5, 0.5 / 0.99 / 0.75, (0.7 / 0.99 + 1) / 2]
    assert ratios == pytest.approx(expected, abs=0.001)
    for share, ratio in zip((0.3, 0.5, 0.7), ratios, strict=True):
        assert share / 0.99 / ratio < 0.95  # of the samples are well learned, not all


def test_a_very_short_last_batch_is_told_of():
    config = replace(CONTEST, epochs=6, batch_size=128, delta=0.875)
    _, reasons = contestants(
        config, ["random"], [0.3], 1400, labels(1400)
    )  # 770 kept of 4 epochs: 6 x 128 + 2
    assert reasons[0].startswith("At 30 % saved pruned epochs end with a batch of 2 samples")
    assert not contestants(replace(config, batch_size=110), ["random"], [0.3], 1400, labels(1400))[1]
    assert not contestants(config, ["random"], [0.3], 1398, labels(1398))[1], "768, for 769 leave one"


def test_a_saving_out_of_reach_says_which_could_be_met():
    with pytest.raises(
        ValueError, match=r"target 0\.95 cannot be met by any policy.* may meet 0\.\d+ at most"
    ):
        contestants(CONTEST, ["random"], [0.95], 5000, labels(5000))
    with pytest.raises(ValueError, match="no policy 'ucbb'; did you mean ucb"):
        contestants(CONTEST, ["ucbb"], [0.3], 5000, labels(5000))


def test_in_a_contest_a_look_is_part_of_the_cost():
    config = replace(LOOKING, epochs=10)
    variants, _ = contestants(config, ["proportional", "random", "ies"], [0.3], 1400)
    targets = {variant.policy: variant.config(config) for variant in variants}
    assert targets["proportional"].target == pytest.approx(0.3 + 1 / 30)
    assert targets["proportional"].prior_scores == "pass"
    assert (targets["random"].target, targets["random"].prior_scores) == (0.3, "")
    assert targets["ies"].target == pytest.approx((0.3 + 1 / 30) * 1.5)


def test_a_saving_that_scoring_leaves_nothing_of_is_told_of():
    labels = torch.arange(1000) % 10
    variants, reasons = contestants(
        replace(SCORED, epochs=10), [*STATIC, "rcap"], [0.3, 0.7], len(labels), labels
    )
    assert {v.policy for v in variants if v.target == 0.3} == {*STATIC, "rcap"}
    assert {v.policy for v in variants if v.target == 0.7} == {"forgetting", "el2n", "rcap"}
    assert [reason for reason in reasons if "batch" not in reason] == [
        "grand does not take part at 70 % saved: its scores cost 40 % of the run, and no more than 30 % "
        "may be spent in all; save less, or make the run longer."
    ]


def test_static_and_class_aware_policies_meet_a_contest_at_equal_cost(call, tmp_path):
    options = ["--data", "digits", "--epochs", 6, "--device", "cpu", "--train-samples", 300]
    options += ["--save", "30", "--seeds", 1, "--eval-every", 6, "--out", tmp_path]
    policies = [*STATIC, "class-quotas", "rcap"]
    code, output, error = call("contest", *options, "--policies", ",".join(policies))
    assert code == 0, error
    assert "EL2N, 30 % saved (biased)" in output
    results = read_comparison(tmp_path / "mnist5k-small-cnn")
    cost = {arm.label: results.cost(arm) for arm in results.arms if arm.kind != "full"}
    assert len(cost) >= len(policies) + 2  # fewer epochs and random pruning, too
    assert list(cost.values()) == pytest.approx([0.7] * len(cost), abs=0.005)
    metrics = RunFolder(tmp_path / "mnist5k-small-cnn/el2n-save-30/pruned/seed-0").metrics()
    # All six epochs alike, but for rounding: 70 % of 6 epochs less 2 x (1 + 1/3), by 6
    assert {m.num_kept for m in metrics} == {76, 77}
    assert sum(m.num_kept for m in metrics) == round(300 * (0.7 * 6 - 2 * 4 / 3))
