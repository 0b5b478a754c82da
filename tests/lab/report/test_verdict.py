"""The verdict, and what is said of controls of another cost."""

from dataclasses import replace

import pytest

from helpers.comparisons import COMPARED, HALF
from helpers.results import compared, ran
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.run import run_comparison
from infobatch.lab.comparison.variants import RANDOM, Arm
from infobatch.lab.data import load_data
from infobatch.lab.report import read_comparison
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.verdict import control_lines, verdict


def test_the_verdict_says_if_nothing_was_pruned(tmp_path):
    made = Comparison(replace(COMPARED, epochs=1), (HALF,), 1, 0.5, tmp_path / "c", controls=False)
    made.create()
    run_comparison(made, load_data("digits"), lambda arm, seed, progress: None, lambda: False)
    assert verdict(read_comparison(made.path)).startswith("Nothing was pruned: no epoch could")


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ([400, 402], "fewer epochs, "),
        ([408, 416], "fewer epochs (which cost 3.0% more), "),
        ([390, 398], "fewer epochs (which cost 1.5% less), "),
    ],
)
def test_a_control_that_cost_more_or_less_says_so(costs, words):
    results = compared(costs)
    assert words in verdict(results)
    assert words.replace(", ", ": ") in control_lines(results)[1]


def test_a_run_that_diverged_is_named():
    results = compared([400, 400])
    results.pruned[0].runs[1].summary.result = float("nan")
    said = verdict(results)
    assert said.startswith("None: ours, seed 1: the result is not a finite number")


def test_costs_are_compared_over_the_seeds_that_both_have():
    results = compared([400])
    ours = results.pruned[0]
    ours.runs[1].summary.cost = 440
    assert "fewer epochs: " in control_lines(results)[1]
    ours.runs[0].summary.cost = 320
    assert "fewer epochs (which cost 25.0% more): " in control_lines(results)[1]


def test_an_interval_covers_the_seeds_that_were_trained_both_ways():
    results = compared([400] * 2)
    results.pruned[0].runs[2] = ran(0.12, 400)
    assert "it covers the 2 seeds" in verdict(results)
    del results.full.runs[1]
    assert verdict(results).endswith("\nOne seed gives no interval.")
    results.full.runs[7] = results.full.runs.pop(0)
    assert verdict(results).endswith("nothing to compare.")


@pytest.mark.parametrize("num_controls", [1, 2])
def test_arms_are_told_apart_by_p_values_corrected_for_their_number(num_controls):
    """Of p = 0.035 one test tells them apart, and of two tests, 0.07, none does."""
    results = replace(compared([400] * 3), margin=0.1)
    full, ours, _ = results.arms
    noise = (0.0, 0.0003, -0.0003)
    full.runs[2], ours.runs[2] = ran(0.12, 600), ran(0.13, 400)
    for seed, run in ours.runs.items():
        run.summary.result = 0.15 - 0.0009 + noise[seed]
    if num_controls == 2:
        alike = {seed: ran(run.summary.result + noise[seed - 1], 400) for seed, run in ours.runs.items()}
        results.arms.append(ArmRuns(Arm(RANDOM, ours.arm.variant), "random pruning", alike))
    told = verdict(results)
    assert ("it is ahead of fewer epochs" in told) == (num_controls == 1)
    assert ("not clearly different from fewer epochs" in told) == (num_controls == 2)
    assert ("with a corrected p of 0.07" in told) == (num_controls == 2)
    assert ("So a shorter run (fewer epochs) does as well here, as" in told) == (num_controls == 2)
    assert ("So pruning pays here." in told) == (num_controls == 1)
    assert "A run trained for 1.0 s, on full data 1.0 s." in told


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        (0.0002, "So a shorter run (fewer epochs) does as well here, as far as 2 seeds tell."),
        (0.02, "Whether a shorter run (fewer epochs) does as well here, 2 seeds do not tell."),
        (0.0, "Whether a shorter run (fewer epochs) does as well here, 2 seeds do not tell."),
    ],
)
def test_a_shorter_run_does_as_well_only_where_the_interval_tells_it(spread, words):
    results = replace(compared([400] * 2), margin=0.01)
    _, ours, fewer = results.arms
    for seed in (0, 1):
        ours.runs[seed].summary.result = 0.12 + 0.0001 * seed
        fewer.runs[seed].summary.result = 0.12 + 0.0001 * seed + spread * (seed - 0.5)
    assert words in verdict(results)


@pytest.mark.parametrize(
    ("num_seeds", "words"),
    [(2, "does as well here, as far as 2 seeds tell"), (1, "does as well here, one seed does not tell")],
)
def test_a_shorter_run_is_judged_by_the_seeds_that_it_was_trained_with(num_seeds, words):
    """As where a comparison was broken off."""
    results = replace(compared([400] * num_seeds), margin=0.05)
    full, ours, fewer = results.arms
    for seed in range(3):
        full.runs[seed] = ran(0.12, 600)
        ours.runs[seed] = ran(0.12 + 0.0001 * seed, 400)
    for seed in fewer.runs:
        fewer.runs[seed] = ran(0.1201 - 0.0001 * seed, 400)
    assert words in verdict(results)


def test_the_same_difference_in_every_seed_tells_nothing_apart():
    """As where each is of one test image: the interval has no width, and says nothing of other seeds."""
    results = compared([400] * 2)
    for run in results.pruned[0].runs.values():
        run.summary.result = 0.1195
    told = verdict(results)
    assert told.startswith("too few seeds to say: 33.3% of the samples saved, ")
    assert "not clearly different from fewer epochs, -0.0305 (-0.0305 to -0.0305) in every seed" in told
    assert "ahead of" not in told
    assert "seeds would tell" not in told, "no spread to reckon with"
    for run in results.pruned[0].runs.values():
        run.summary.result = 0.12
    assert verdict(results).startswith("too few seeds to say: 33.3%"), "the same result in both seeds"


def test_without_a_margin_nothing_is_called_lossless():
    results = replace(compared([400] * 2), margin=0.0)
    told = verdict(results)
    assert told.startswith("33.3% of the samples saved, denoising loss against full data +0.0150 (")
    assert "Whether that is lossless --margin decides, the most of the denoising loss that" in told
    assert "seeds would tell" not in told
    assert "Lossless means" not in told
    for place, run in results.pruned[0].runs.items():
        run.summary.result = 0.05 + place / 1000
    told = verdict(results)
    assert "it is ahead of" in told
    assert "So pruning pays" not in told
