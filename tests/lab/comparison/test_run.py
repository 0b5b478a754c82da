"""Every run of a comparison is trained, once."""

from dataclasses import replace

import pytest

from helpers.comparisons import FEWER, FEWER_SCALED, FULL, PRUNED, RANDOM, kept
from infobatch.lab.comparison.run import run_comparison
from infobatch.lab.data import load_data

ARMS = (FULL, PRUNED, FEWER, FEWER_SCALED, RANDOM)


def test_every_arm_is_trained_with_every_seed(comparison):
    assert list(comparison.seeds) == [3, 4]
    assert all(comparison.folder(arm, seed).finished for arm in ARMS for seed in comparison.seeds)


def test_full_data_trains_on_everything(comparison):
    assert kept(comparison, FULL, 3) == [1400] * 4


def test_the_arms_of_a_seed_start_alike(comparison):
    first = {arm: comparison.folder(arm, 3).metrics()[0].train_loss for arm in (FULL, PRUNED, RANDOM)}
    assert len(set(first.values())) == 1


def test_a_finished_comparison_is_only_read_again(comparison):
    before = (comparison.folder(FULL, 3).path / "summary.json").stat().st_mtime_ns
    run_comparison(comparison, load_data("digits"), lambda arm, seed, progress: None, lambda: False)
    assert (comparison.folder(FULL, 3).path / "summary.json").stat().st_mtime_ns == before


def test_an_error_that_is_kept_as_in_a_notebook_locks_no_run(data, comparison, tmp_path):
    made = replace(comparison, path=tmp_path / "c")
    made.create()

    def stop(arm, seed, progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:
        run_comparison(made, data, stop, lambda: False)
    assert kept.tb is not None
    assert made.folder(*made.runs[0]).claim()
