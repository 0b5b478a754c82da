"""What a reader sees first."""

from dataclasses import replace

from helpers.results import compared
from infobatch.lab.report.headline import headlines
from infobatch.lab.report.verdict import verdict
from infobatch.lab.tasks.metrics import ACCURACY


def test_a_pruned_arm_has_a_word_and_three_figures():
    (made,) = headlines(compared([400, 400]))
    assert (made.label, made.word, made.kind) == ("ours", "too few seeds to say", "too")
    assert [figure.value for figure in made.figures] == ["33 %", "+0.0150", "1.0 s"]
    assert (
        "denoising loss against full data (-0.0485 to +0.0785, 95 % interval)" in made.figures[1].meaning
    )


def test_what_is_saved_is_of_the_cost_where_more_was_computed_than_trained():
    results = compared([400, 400])
    for run in results.pruned[0].runs.values():
        run.summary.num_trained = 300  # and forward passes for 100 more
    assert headlines(results)[0].figures[0].meaning == "of the cost saved"
    assert "33.3% of the cost saved" in verdict(results)


def test_a_metric_that_every_run_is_at_the_end_of_is_no_success():
    results = replace(compared([400, 400]), metric=ACCURACY)
    for arm in results.arms:
        for run in arm.runs.values():
            run.summary.result = 100.0
            run.metric = ACCURACY
    (made,) = headlines(results)
    assert made.kind == "saturated"
    assert verdict(results).startswith("None: every run reached accuracy 100.00 %, the best there")
    results.pruned[0].runs[0].summary.result = 99.9
    assert headlines(results)[0].kind != "saturated"


def test_shares_are_not_judged_as_percentages():
    results = replace(compared([400, 400]), metric=ACCURACY)
    for arm in results.arms:
        for run in arm.runs.values():
            run.summary.result = 0.93
    assert headlines(results)[0].word == "no verdict"
    assert verdict(results).startswith("None: accuracy 0.93 % and all others are at most 1, as if")
    assert "--own.lower-is-better" in verdict(results)
    results.pruned[0].runs[0].summary.result = 93.0
    assert headlines(results)[0].word != "no verdict"


def test_the_word_is_the_verdicts():
    results = compared([400, 400])
    results.pruned[0].runs[1].summary.result = float("nan")
    assert headlines(results)[0].word == "no verdict"
    assert verdict(results).startswith("None: ours, seed 1: the result is not a finite number")
    results = compared([400, 400])
    for run in results.pruned[0].runs.values():
        run.summary.num_trained = run.summary.num_full
    assert headlines(results)[0].word == "nothing pruned"
    assert verdict(results).startswith("Nothing was pruned: the policy left nothing out of the epochs")
    for run in results.pruned[0].runs.values():
        run.config.warmup_epochs = 3
    assert verdict(results).startswith("Nothing was pruned: no epoch could be pruned: warm-up")


def test_a_budget_may_allow_nothing():
    results = compared([400, 400], metrics=[None, None])
    for run in results.pruned[0].runs.values():
        run.summary.num_trained = run.summary.num_full
        run.config.policy = "noise-budget:max_noise=1.00001"
    assert verdict(results).startswith("Nothing was pruned: the budget of noise allowed nothing to")


def test_one_seed_has_no_interval():
    results = compared([400])
    for arm in results.arms:
        arm.runs.pop(1, None)
    (made,) = headlines(results)
    assert made.figures[1].meaning.endswith("(one seed)")
