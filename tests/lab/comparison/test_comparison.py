"""The arms of a comparison: what each is given, at the cost of the pruned run."""

import json
import types
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import run
from helpers.comparisons import COMPARED, CONTEST, FEWER, FEWER_SCALED, FULL, HALF, PRUNED, RANDOM, kept
from helpers.digits import LOOKING, SCORED
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.run import run_comparison
from infobatch.lab.comparison.variants import (
    SAME_STEPS,
    UNDERSAMPLED,
    UNDERSAMPLED_SAME_STEPS,
    Arm,
    Variant,
)
from infobatch.lab.config.pruned_epochs import delta_of
from infobatch.lab.runs.records import EpochMetrics, Summary


def test_random_pruning_keeps_the_recorded_count_of_each_epoch(comparison):
    for seed in comparison.seeds:
        assert kept(comparison, RANDOM, seed) == kept(comparison, PRUNED, seed)


@pytest.mark.parametrize("arm", [FEWER, FEWER_SCALED])
def test_fewer_epochs_gets_exactly_the_samples_that_the_pruned_run_recorded(comparison, arm):
    for seed in comparison.seeds:
        counts = kept(comparison, arm, seed)
        assert sum(counts) == sum(kept(comparison, PRUNED, seed))
        assert counts[:-1] == [1400] * (len(counts) - 1)
        assert counts[-1] < 1400


def test_the_scaled_arm_raises_the_learning_rate_by_the_samples_saved(comparison):
    config = comparison.folder(FEWER_SCALED, 3).config()
    share = sum(kept(comparison, PRUNED, 3)) / (4 * 1400)
    assert config.lr == pytest.approx(COMPARED.lr / share)
    assert comparison.folder(FEWER, 3).config().lr == COMPARED.lr


def test_the_schedule_of_fewer_epochs_ends_at_the_same_rate(comparison):
    rates = [comparison.folder(arm, 3).metrics()[-1].lr for arm in (FULL, PRUNED, FEWER, RANDOM)]
    assert max(rates) < 1e-3 * COMPARED.lr
    assert rates == pytest.approx([rates[0]] * 4, abs=1e-3 * COMPARED.lr)


def test_a_comparison_folder_is_not_used_twice(comparison):
    with pytest.raises(FileExistsError, match="already holds a comparison"):
        comparison.create()


def test_a_comparison_survives_json(comparison):
    assert Comparison.load(comparison.path) == comparison
    assert json.loads((comparison.path / "compare.json").read_text())["num_seeds"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_seeds": 0}, "--seeds is 0"),
        ({"margin": -1.0}, "--margin is -1.0"),
        ({"margin": 0.0}, "must be above 0"),
    ],
)
def test_bad_comparison_options_are_refused(tmp_path, options, message):
    values = {"num_seeds": 2, "margin": 0.5, **options}
    with pytest.raises(ValueError, match=message):
        Comparison(COMPARED, (HALF,), path=tmp_path, **values).check()


def test_controls_are_given_what_was_computed_not_only_what_was_trained(tmp_path):
    variant = Variant("kakurenbo", 0.3)
    comparison = Comparison(replace(CONTEST, epochs=3), (variant,), 1, 0.5, tmp_path)
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


@pytest.mark.parametrize(("batch_size", "in_epoch"), [(30, 90), (50, 100), (300, 100)])
def test_an_epoch_of_the_controls_is_without_a_last_batch_that_is_dropped(
    tmp_path, batch_size, in_epoch
):
    config = replace(COMPARED, batch_size=batch_size, drop_last=True)
    made = Comparison(config, (HALF,), 1, 0.5, tmp_path)
    folder = made.folder(PRUNED, 3)
    folder.create(made.pruned_config(HALF))
    others = (0.1, 0.1, 90.0, 1.0, 0.1, 0, [])
    counts = (in_epoch, in_epoch // 2, in_epoch // 2, in_epoch)
    folder.write_metrics([EpochMetrics(n, kept, 100, *others) for n, kept in enumerate(counts)])
    folder.write_summary(Summary(90.0, 0.1, [], sum(counts), 4 * in_epoch, 30, 0.1, 0.1, 0, {}))
    assert made.run_config(FEWER, 3).epochs == pytest.approx(3)
    assert made.run_config(FEWER_SCALED, 3).lr == pytest.approx(COMPARED.lr * 4 / 3)


def test_policies_of_one_cost_share_its_controls(tmp_path):
    variants = [Variant(name, 0.5, share) for share in (0.3, 0.5) for name in ("infobatch", "rs2")]
    comparison = Comparison(CONTEST, tuple(variants), 1, 0.5, tmp_path)
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


def test_rivals_are_given_what_a_look_costs_and_do_not_look(data, tmp_path):
    comparison = Comparison(LOOKING, (Variant("infobatch"),), 1, None, tmp_path)
    comparison.check()
    pruned = Arm("pruned", Variant("infobatch"))
    cost = run(comparison.run_config(pruned, 0), data, comparison.folder(pruned, 0).path).cost
    for kind in ("full", "fewer-epochs", "random"):
        arm = Arm(kind) if kind == "full" else Arm(kind, Variant("infobatch"))
        config = comparison.run_config(arm, 0)
        assert config.prior_scores == ""
        if kind != "full":
            assert abs(run(config, data, comparison.folder(arm, 0).path).cost - cost) < 2


def test_a_variant_of_static_scores_has_its_own_schedule(tmp_path):
    config = replace(SCORED, epochs=10, warmup_epochs=1, delta=0.5)
    comparison = Comparison(config, (), 1, 0.5, tmp_path)
    static = comparison.pruned_config(Variant("forgetting", 0.5, 0.3))
    assert (static.warmup_epochs, static.delta, static.target) == (0, 1.0, 0.5)
    other = comparison.pruned_config(Variant("rcap", 0.5, 0.3))
    assert (other.warmup_epochs, other.delta, other.target) == (1, 0.5, 0.3)


# -- Batches that shrink -----------------------------------------------------------------------------

BUDGET = Variant("noise-budget:max_noise=1.5")
SMALLER = ("fewer-epochs", "fewer-epochs-lr", "same-steps", "random-same-steps")


def kinds(comparison, variant):
    return tuple(
        arm.kind for arm in comparison.arms[1:] if arm.kind != "pruned" and arm.variant == variant
    )


@pytest.fixture(scope="module")
def budgeted(data, tmp_path_factory):
    """A comparison of one seed with a variant whose batches shrink, all its runs finished."""
    made = Comparison(replace(COMPARED, epochs=6), (BUDGET,), 1, 0.5, tmp_path_factory.mktemp("b") / "c")
    made.create()
    run_comparison(made, data, lambda arm, seed, progress: None, lambda: False)
    return made


def test_the_same_steps_are_beside_fewer_epochs_where_batches_shrink(tmp_path):
    made = Comparison(COMPARED, (HALF, BUDGET), 1, 0.5, tmp_path)
    assert kinds(made, BUDGET) == SMALLER
    assert kinds(made, HALF) == ("fewer-epochs", "fewer-epochs-lr", "random")
    asked = replace(made, also=(SAME_STEPS,))
    assert kinds(asked, HALF) == ("fewer-epochs", "fewer-epochs-lr", "same-steps", "random")
    all_shrink = replace(made, config=replace(COMPARED, shrink="batches"))
    assert kinds(all_shrink, HALF) == SMALLER


def test_policies_of_one_cost_share_the_controls_of_both_ways_to_shrink(tmp_path):
    variants = [Variant(name, 0.5, 0.3) for name in ("infobatch", "noise-budget")]
    made = Comparison(CONTEST, tuple(variants), 1, 0.5, tmp_path)
    shared = ("fewer-epochs", "fewer-epochs-lr", "same-steps", "random", "random-same-steps")
    assert kinds(made, Variant("", target=0.3)) == shared
    with_random = replace(made, variants=(*variants, Variant("random", 0.5, 0.3)))
    without = tuple(kind for kind in shared if kind != "random")
    assert kinds(with_random, Variant("", target=0.3)) == without


def test_controls_cost_what_the_pruned_run_turned_out_to_cost(budgeted):
    (seed,) = budgeted.seeds
    summaries = {arm.kind: budgeted.folder(arm, seed).summary() for arm in budgeted.arms}
    cost = summaries["pruned"].cost
    assert cost < 0.95 * summaries["full"].cost
    assert {kind: summaries[kind].cost for kind in SMALLER} == dict.fromkeys(SMALLER, cost)
    steps = {kind: summary.num_steps for kind, summary in summaries.items()}
    assert steps["pruned"] == steps["random-same-steps"] == steps["full"]
    assert abs(steps["same-steps"] - steps["full"]) <= 2, (
        "each of its four epochs has one step more or less"
    )
    assert steps["fewer-epochs"] < steps["full"]


def test_fewer_epochs_in_the_same_steps_have_a_smaller_batch(budgeted):
    same = budgeted.folder(Arm("same-steps", BUDGET), 3).config()
    share = budgeted.folder(Arm("pruned", BUDGET), 3).summary().cost / (6 * 1400)
    assert same.epochs == pytest.approx(6 * share)
    assert same.batch_size == pytest.approx(128 * share, rel=0.1)
    assert (same.policy, same.lr) == ("none", COMPARED.lr)
    others = same.differences(budgeted.folder(FULL, 3).config())
    assert others.keys() == {"epochs", "batch_size"}


def test_random_pruning_in_the_same_steps_keeps_as_many_in_each_epoch(budgeted):
    random = Arm("random-same-steps", BUDGET)
    assert kept(budgeted, random, 3) == kept(budgeted, Arm("pruned", BUDGET), 3)
    assert budgeted.folder(random, 3).config().shrink == "batches"


@pytest.mark.parametrize(("earlier", "also"), [({}, ()), ({"same_steps": True}, (SAME_STEPS,))])
def test_what_is_asked_for_survives_json(earlier, also, tmp_path):
    made = Comparison(COMPARED, (BUDGET,), 1, 0.5, tmp_path / "c", also=(SAME_STEPS, UNDERSAMPLED))
    made.create()
    assert Comparison.load(made.path) == made
    saved = made.to_json()
    del saved["also"]  # as it was written before several controls could be asked for
    (made.path / "compare.json").write_text(json.dumps(saved | earlier))
    assert Comparison.load(made.path) == replace(made, also=also)


def test_undersampling_leaves_out_as_many_in_each_epoch(tmp_path, data):
    made = Comparison(COMPARED, (BUDGET,), 1, 0.5, tmp_path / "c", also=(UNDERSAMPLED,))
    made.create()
    run_comparison(made, data, lambda arm, seed, progress: None, lambda: False)
    ours = Arm(UNDERSAMPLED_SAME_STEPS, BUDGET)
    assert kept(made, ours, 3) == kept(made, Arm("pruned", BUDGET), 3)
    steps = [made.folder(arm, 3).summary().num_steps for arm in (ours, FULL)]
    assert steps[0] == steps[1]


def test_undersampling_is_not_trained_twice(tmp_path):
    variants = [Variant(policy, 0.5, 0.3) for policy in ("undersampling", "rs2")]
    made = Comparison(COMPARED, tuple(variants), 1, 0.5, tmp_path / "c", also=(UNDERSAMPLED,))
    cost = Variant("", target=0.3)
    assert UNDERSAMPLED not in kinds(made, cost)
    assert UNDERSAMPLED in kinds(replace(made, variants=made.variants[1:]), cost)
    shrunk = replace(made, variants=(*variants, Variant("noise-budget", 0.5, 0.3)))
    assert UNDERSAMPLED_SAME_STEPS in kinds(shrunk, cost), "with smaller batches it is another one"


def test_policies_that_shrink_something_else_leave_folders_as_they_are(tmp_path):
    cost = Variant("", target=0.3)
    made = Comparison(COMPARED, (Variant("rs2", 0.5, 0.3),), 1, 0.5, tmp_path, also=(UNDERSAMPLED,))
    both = replace(made, variants=(*made.variants, Variant("noise-budget", 0.5, 0.3)))
    same, shrunk = Arm(UNDERSAMPLED, cost), Arm(UNDERSAMPLED_SAME_STEPS, cost)
    assert both.run_config(same, 3) == made.run_config(same, 3)
    assert (made.run_config(same, 3).shrink, both.run_config(shrunk, 3).shrink) == ("steps", "batches")
    assert {same, shrunk} <= set(both.arms)


@pytest.mark.parametrize("epochs", [4.4, 3.5])
def test_a_last_epoch_that_is_cut_short_costs_the_controls_as_much(epochs, tmp_path, data):
    made = Comparison(replace(COMPARED, epochs=epochs), (BUDGET,), 1, 0.5, tmp_path / "c")
    made.create()
    run_comparison(made, data, lambda arm, seed, progress: None, lambda: False)
    costs = {arm.kind: made.folder(arm, 3).summary().cost for arm in made.arms[1:]}
    assert costs["random-same-steps"] == pytest.approx(costs["pruned"], abs=len(made.arms))


def test_policies_of_one_cost_prune_in_the_same_epochs():
    configs = [Variant(policy, 0.5, 0.3).config(CONTEST) for policy in ("infobatch", "noise-budget")]
    assert {delta_of(config) for config in configs} == {1}
    assert delta_of(Variant("noise-budget", 0.5, 0.3).config(replace(CONTEST, delta=0.9))) == 0.9
    assert delta_of(Variant("noise-budget:max_noise=1.1").config(CONTEST)) == 1


def test_undersampling_is_refused_before_training_where_it_cannot_be(tmp_path, data):
    made = Comparison(COMPARED, (BUDGET,), 1, 0.5, tmp_path / "c", also=(UNDERSAMPLED,))
    unlabelled = types.SimpleNamespace(
        train=data.train, train_labels=None, shape=data.shape, num_classes=10
    )
    with pytest.raises(ValueError, match="undersampling"):
        made.check_data(unlabelled)


@pytest.mark.parametrize("epochs", [2.7, 3.0])
def test_undersampling_is_not_said_to_prune_nothing_where_it_does(tmp_path, data, epochs):
    config = replace(COMPARED, epochs=epochs, policy="spaced", target=0.3)
    made = Comparison(config, (Variant("spaced"),), 1, 0.5, tmp_path, also=(UNDERSAMPLED,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.check_data(data)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_comparison_in_which_nothing_can_be_pruned_is_refused(epochs):
    config = replace(COMPARED, epochs=epochs)
    with pytest.raises(ValueError, match=f"--epochs is {epochs}, of which none can be pruned, for warm"):
        Comparison(config, (HALF,), 1, None, Path("c")).check()


def test_a_budget_prunes_the_second_epoch():
    config = replace(COMPARED, epochs=2, policy="noise-budget")
    Comparison(config, (Variant("noise-budget"),), 1, None, Path("c")).check()
