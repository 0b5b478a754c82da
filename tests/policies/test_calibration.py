"""Moments of strata, calibrated by the fresh norms of the samples just trained."""

import numpy as np
import pytest

from infobatch.policies.calibration import (
    MIDDLES,
    as_seen_last,
    bins_of,
    calibrated_moments,
    guessed_moments,
    strata_of_bins,
)


def test_bins_rise_with_the_norm_and_tell_norms_apart_to_within_two_percent():
    norms = np.logspace(-30, 30, 2000, dtype=np.float32)
    bins = bins_of(norms)
    assert (np.diff(bins.astype(int)) > 0).all()
    assert MIDDLES[bins] == pytest.approx(norms, rel=0.02)
    assert bins_of(np.zeros(1, np.float32))[0] == 0


def test_bins_of_a_column_of_a_table():
    norms = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    assert (bins_of(norms[:, 1]) == bins_of(np.array([2.0, 4.0], np.float32))).all()


def test_strata_are_cut_by_shares_of_samples_and_of_norm():
    norms = np.array([0.01] * 98 + [10.0, 20.0], np.float32)
    counts = np.bincount(bins_of(norms), minlength=len(MIDDLES))
    strata = strata_of_bins(counts, 8)[bins_of(norms)]
    assert (np.diff(strata.astype(int)) >= 0).all()
    assert strata[0] < strata[98] < strata[99]


def test_guessed_moments_lie_between_the_stratums_and_the_mean_of_all():
    norms = np.array([0.1] * 50 + [1.0] * 50, np.float32)
    counts = np.bincount(bins_of(norms), minlength=len(MIDDLES))
    strata = strata_of_bins(counts, 4)
    means = guessed_moments(counts, strata, 4, 0.2).means[strata[bins_of(norms)]]
    assert means[0] == pytest.approx(0.8 * 0.01 + 0.2 * 0.505, rel=0.04)
    assert means[-1] == pytest.approx(0.8 * 1 + 0.2 * 0.505, rel=0.04)


def test_norms_are_taken_as_if_all_had_been_seen_last():
    generator = np.random.default_rng(0)
    hardness = generator.lognormal(0, 1, 8000).astype(np.float32)
    times = generator.permutation(8000) // 20  # batches of 20
    learned = 1 - 0.99 * times / times.max()  # the level of norms falls to a hundredth
    moved = as_seen_last((hardness * learned).astype(np.float32), times)
    of_last = hardness * 0.01
    assert np.corrcoef(np.log(moved), np.log(of_last))[0, 1] > 0.95
    assert np.sqrt((moved**2).mean()) < 0.2 * np.sqrt((hardness**2).mean())


def test_norms_that_nothing_tells_the_time_of_stay_as_they_are():
    norms = np.random.default_rng(0).uniform(size=1000).astype(np.float32)
    at_once, too_few = np.ones(1000, np.int32), np.arange(100)
    assert (as_seen_last(norms, at_once) == norms).all()
    assert (as_seen_last(norms[:100], too_few) == norms[:100]).all()
    assert as_seen_last(norms[:0], too_few[:0]).size == 0
    assert (as_seen_last(norms, np.arange(1000)) == norms).all()  # nothing was learned
    norms[::3] = np.nan
    norms[:900] *= 10
    assert (np.isnan(as_seen_last(norms, np.arange(1000))) == np.isnan(norms)).all()


def test_calibrated_moments_are_those_of_the_fresh_norms():
    generator = np.random.default_rng(0)
    before = generator.uniform(0, 1, 200_000).astype(np.float32)
    fresh = (before * 0.5 + 0.2).astype(np.float32)
    kept = np.clip(before, 0.2, 1)
    chosen = generator.random(len(before)) < kept
    moments = calibrated_moments([(before[chosen], fresh[chosen], (1 / kept[chosen]).astype("f4"))], 16)
    counts = np.bincount(bins_of(before), minlength=len(MIDDLES))
    strata = strata_of_bins(counts, 16)[bins_of(before)]
    exact = np.bincount(strata, fresh.astype(float) ** 2, 16) / np.bincount(strata, minlength=16)
    assert moments.means == pytest.approx(exact, rel=0.03)
    assert (moments.errors < 0.05 * moments.means).all()


def test_calibrated_moments_rise_and_pool_what_does_not():
    before = np.repeat(np.array([0.1, 0.2, 0.3, 0.4], np.float32), 100)
    fresh = np.repeat(np.array([0.1, 0.5, 0.3, 0.9], np.float32), 100)
    moments = calibrated_moments([(before, fresh, np.ones(400, np.float32))], 8)
    assert (np.diff(moments.means) >= 0).all()
    assert len(set(moments.blocks.tolist())) < 8
    assert (np.diff(moments.blocks) >= 0).all()


def test_a_stratum_of_few_samples_has_a_large_error():
    before = np.array([0.01] * 5 + [1.0] * 5000, np.float32)
    fresh = np.array([0.01] * 4 + [1.0] + [1.0] * 5000, np.float32)
    moments = calibrated_moments([(before, fresh, np.full(5005, 20, np.float32))], 4)
    assert moments.errors[0] > 3 * moments.errors[-1]


def test_where_no_gradient_is_left_all_moments_are_zero():
    moments = calibrated_moments([(np.zeros(9, "f4"), np.zeros(9, "f4"), np.ones(9, "f4"))], 4)
    assert moments.means.tolist() == [0.0] * 4
