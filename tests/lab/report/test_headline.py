"""What a reader sees first."""

from helpers.results import compared
from infobatch.lab.report.headline import headlines


def test_a_pruned_arm_has_a_word_and_three_figures():
    (made,) = headlines(compared([400, 400]))
    assert (made.label, made.word, made.kind) == ("ours", "too few seeds to say", "too")
    assert [figure.value for figure in made.figures] == ["33 %", "+0.0150", "1.0 s"]
    assert (
        "denoising loss against full data (-0.0485 to +0.0785, 95 % interval)" in made.figures[1].meaning
    )


def test_one_seed_has_no_interval():
    results = compared([400])
    for arm in results.arms:
        arm.runs.pop(1, None)
    (made,) = headlines(results)
    assert made.figures[1].meaning.endswith("(one seed)")
