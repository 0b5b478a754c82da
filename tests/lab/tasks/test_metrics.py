"""Metrics and how their figures are written."""

from helpers.results import LOSS
from infobatch.lab.tasks.metrics import ACCURACY, digits_of


def test_a_metric_writes_its_figures():
    assert LOSS.heading == "denoising loss (lower is better)"
    assert LOSS.named(0.02346) == "denoising loss 0.0235"
    assert ACCURACY.heading == "accuracy %"
    assert ACCURACY.named(71.914) == "accuracy 71.91 %"


def test_a_percentage_has_two_digits_though_it_is_0():
    assert [digits_of("exact match %", value) for value in (0.0, 0.5, 26.5)] == [2, 2, 2]
    assert [digits_of("reconstruction loss", value) for value in (0.5952, 1.2)] == [4, 2]
    assert digits_of("FID", 31.25) == 2


def test_a_small_percentage_has_a_digit_more():
    assert [digits_of("error %", value) for value in (0.009, -0.05, 0.1)] == [3, 3, 2]
