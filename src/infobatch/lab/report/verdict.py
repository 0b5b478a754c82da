"""Results in plain words: the verdict, and what a user would do instead at the same cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from infobatch.lab.comparison.variants import CONTROLS
from infobatch.lab.config.pruned_epochs import why_nothing_left_out
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.paired import (
    MOST_SEEDS,
    TOO_FEW,
    TOO_NEAR,
    Difference,
    holm,
    judge,
    p_text,
    p_value,
    seeds_needed,
)
from infobatch.lab.report.results import Results

EQUAL_COST = 0.005
"""Costs that differ by a smaller share are called the same."""
ALIKE = "not clearly different from"
LARGEST_P = 0.05
"""Arms whose p value, corrected for the number of tests, is at least this are not told apart."""


class Judgement(NamedTuple):
    """What is found of a pruned arm beside full data: in a word or a few, and in sentences.

    ``difference`` is None where no seed was trained both ways.
    """

    arm: ArmRuns
    difference: Difference | None
    word: str
    text: str


def judgements(results: Results) -> list[Judgement]:
    """Judge each pruned arm; none for a contest, which has a table of its own, and without full data."""
    if results.full is None or results.is_contest:
        return []
    return [_judgement(arm, results.full, results) for arm in results.pruned]


def verdict(results: Results) -> str:
    """Say whether pruning was lossless, and what it saved.

    Args:
        results: What the report shows.

    Returns:
        A line for each judgement and one on what the interval covers; empty where there is none.
    """
    made = judgements(results)
    if not made:
        return ""
    lines = [each.text if len(made) == 1 else f"{each.arm.label}: {each.text}" for each in made]
    pairs = [each.difference.num_pairs for each in made if each.difference is not None]
    return "\n".join([*lines, _scope(results, max(pairs))] if pairs else lines)


def control_lines(results: Results) -> list[str]:
    """Compare each pruned arm with what a user would do instead at the same cost.

    Args:
        results: What the report shows.

    Returns:
        A heading and an indented line for each comparison; none for a contest, or without controls.
    """
    if results.is_contest:
        return []
    tests = _tests(results)
    lines = [
        f"  {each.ours.label} against {each.named}: {each.difference}{_points(results)}"
        f"{f', p {p_text(each.p)}' * (not math.isnan(each.p))}"
        for each in tests
    ]
    heading = "At the same cost, the samples that each seed's pruned run trained on"
    tested = " (p of a paired t test, after Holm's correction over these lines)"
    tested = "" if all(math.isnan(each.p) for each in tests) else tested
    return [f"{heading}{tested}:", *lines] if lines else []


def _judgement(ours: ArmRuns, full: ArmRuns, results: Results) -> Judgement:
    difference = Difference.of(ours.runs, full.runs)
    if difference is None:
        none = "No seed was trained both on full data and pruned: nothing to compare."
        return Judgement(ours, None, "no verdict", none)
    if unjudged := _why_unjudged(ours, full, difference, results):
        return Judgement(ours, difference, *unjudged)
    saved = f"{results.saved(ours):.1%} of the {ours.saves} saved"
    found = f"{saved}, {results.metric.name} against full data {difference}{_points(results)}."
    took = f"A run trained for {_seconds(ours)} s, on full data {_seconds(full)} s."
    places = _places(ours, results)
    beside = [took, *_against_controls(places)]
    if not results.margin:
        asked = (
            f"Whether that is lossless --margin decides, the most of the {results.metric.name} that you "
            "would give up."
        )
        return Judgement(ours, difference, "no verdict", " ".join([found, asked, *beside]))
    word = judge(difference, results.margin)
    sentences = [f"{word}: {found}", *_what_would_tell(word, difference, results.margin), *beside]
    if word == "lossless":
        sentences += _conclusion(places, results.margin)
    return Judgement(ours, difference, word, " ".join(sentences))


def _why_unjudged(
    ours: ArmRuns, full: ArmRuns, difference: Difference, results: Results
) -> tuple[str, str] | None:
    """Why an arm has no verdict, in a word or two and a sentence; None where a margin gives it one."""
    if not math.isfinite(difference.mean):
        return "no verdict", f"None: {_diverged([ours, full])}."
    if ours.mean("num_trained") == ours.mean("num_full"):
        why = why_nothing_left_out(next(iter(ours.runs.values())).config)
        return "nothing pruned", f"Nothing was pruned: {why}."
    if results.is_saturated:
        return (
            "saturated",
            f"None: every run reached {results.metric.named(ours.result)}, the best there is, so "
            "that it tells none apart. Take harder data, a shorter run, or a metric that has room left.",
        )
    if results.has_no_percentages:
        return (
            "no verdict",
            f"None: {results.metric.named(ours.result)} and all others are at most 1, as if they were "
            "shares or losses and no percentages. Say what they are, and what you would give up, by "
            "going on with --resume --own.metric accuracy --margin 0.005, or of a loss with --resume "
            '--own.metric "log loss" --own.lower-is-better --margin 0.01.',
        )
    return None


def _what_would_tell(word: str, difference: Difference, margin: float) -> list[str]:
    """How many seeds would give a verdict, where those that there are do not and it can be told."""
    if word == TOO_NEAR:
        return [f"At this spread not even {MOST_SEEDS} seeds would tell."]
    number = seeds_needed(difference, margin) if word == TOO_FEW else None
    return [] if number is None else [f"At this spread about {number} seeds would tell."]


def _seconds(arm: ArmRuns) -> str:
    seconds = arm.mean("seconds")
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.1f}"


def _diverged(arms: Sequence[ArmRuns]) -> str:
    """Which runs have no finite result."""
    named = [
        f"{arm.label}, seed {seed}"
        for arm in arms
        for seed, run in arm.runs.items()
        if not math.isfinite(run.summary.result)
    ]
    return f"{'; '.join(named)}: the result is not a finite number, so training diverged"


def _scope(results: Results, num_seeds: int) -> str:
    """What the interval covers, of so many seeds that were trained both ways, and "lossless" means."""
    if num_seeds == 1:
        return "One seed gives no interval."
    scope = (
        "± is the standard deviation over seeds, in parentheses is the 95 % interval of the mean "
        f"paired difference: it covers the {num_seeds} seeds, not the choice of the test set."
    )
    if not results.margin:
        return scope
    bound = f"{'above -' if results.metric.higher_is_better else 'below +'}{results.margin:g}"
    return f"{scope} Lossless means {bound}{_points(results)}."


class _Test(NamedTuple):
    """A pruned arm beside a control of its cost; p is corrected for the number of tests."""

    ours: ArmRuns
    control: ArmRuns
    difference: Difference
    p: float

    @property
    def named(self) -> str:
        """The control, and by how much it cost more or less where that matters."""
        return f"{self.control.label}{_cost_gap(self.control, self.ours)}"


def _tests(results: Results) -> list[_Test]:
    """Each pruned arm beside each of its controls that has a seed of it."""
    pairs = [
        (ours, control, difference)
        for ours in results.pruned
        for control in results.controls_of(ours)
        if (difference := Difference.of(ours.runs, control.runs)) is not None
    ]
    p_values = holm([p_value(ours, control) for ours, control, _ in pairs])
    return [_Test(*pair, p) for pair, p in zip(pairs, p_values, strict=True)]


class _Place(NamedTuple):
    """Where a pruned arm stands beside a control of its cost, and how that is said."""

    control: ArmRuns
    word: str
    phrase: str
    difference: Difference

    def does_as_well(self, margin: float) -> bool:
        """Whether the control loses less than the margin to the arm, as far as can be told."""
        return self.difference.most_gain < margin and not self.difference.has_no_spread


def _places(ours: ArmRuns, results: Results) -> list[_Place]:
    """Where an arm stands beside each of its controls."""
    return [_place(test) for test in _tests(results) if test.ours is ours]


def _place(test: _Test) -> _Place:
    _, control, difference, p = test
    if math.isnan(difference.mean):
        word = "without a finite result to compare with of"
        return _Place(control, word, control.label, difference)
    word, told = ALIKE, f"{difference}"
    is_apart = difference.least_gain > 0 or difference.most_gain < 0
    if is_apart and p < LARGEST_P:
        word = "ahead of" if difference.least_gain > 0 else "behind"
    elif difference.has_no_spread:
        told += " in every seed, so that there is no spread to judge by"
    elif is_apart:
        told += f" with a corrected p of {p_text(p)}"
    return _Place(control, word, f"{test.named}, {told}", difference)


def _against_controls(places: Sequence[_Place]) -> list[str]:
    """A sentence on what a user would do instead, at the same cost."""
    phrases: dict[str, list[str]] = {}
    for place in places:
        phrases.setdefault(place.word, []).append(place.phrase)
    said = [f"{word} {', '.join(which)}" for word, which in phrases.items()]
    return [f"At the same cost it is {'; '.join(said)}."] if said else []


def _conclusion(places: Sequence[_Place], margin: float) -> list[str]:
    """What a user is to do, of a pruned arm that is lossless."""
    shorter = [place for place in places if CONTROLS[place.control.kind].is_shorter]
    alike = [place for place in shorter if place.word == ALIKE]
    better = [place for place in shorter if place.word == "behind"]
    equal = [place for place in alike if place.does_as_well(margin)]
    for found, advice in ((better, "is the better choice"), (equal, "does as well")):
        if found:
            label, num_seeds = found[0].control.label, found[0].difference.num_pairs
            return [f"So a shorter run ({label}) {advice} here, as far as {num_seeds} seeds tell."]
    if alike:
        label, num_seeds = alike[0].control.label, alike[0].difference.num_pairs
        seeds = "one seed does" if num_seeds == 1 else f"{num_seeds} seeds do"
        return [f"Whether a shorter run ({label}) does as well here, {seeds} not tell."]
    if shorter and all(place.word == "ahead of" for place in shorter):
        return ["So pruning pays here."]
    return []


def _points(results: Results) -> str:
    return " points" if results.metric.unit == "%" else ""


def _cost_gap(control: ArmRuns, ours: ArmRuns) -> str:
    """By how much a control's cost differs, where cutting its epochs at whole batches matters."""
    seeds = control.runs.keys() & ours.runs.keys()
    costs = [sum(arm.runs[seed].summary.cost for seed in seeds) for arm in (control, ours)]
    more = costs[0] / costs[1] - 1
    if abs(more) < EQUAL_COST:
        return ""
    return f" (which cost {abs(more):.1%} {'more' if more > 0 else 'less'})"
