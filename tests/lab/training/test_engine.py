"""What every run does between its steps: it goes on bit for bit, and records what it was."""

from dataclasses import replace

import pytest

from helpers import run, stop_after, without_times
from helpers.digits import LOOKING, QUICK
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.validate import check_run


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The folder of an uninterrupted run."""
    path = tmp_path_factory.mktemp("whole")
    run(QUICK, data, path)
    return RunFolder(path)


@pytest.mark.parametrize("stop", [1, 11, 15, 30])
def test_an_interrupted_run_goes_on_bit_for_bit(data, whole, tmp_path, stop):
    with pytest.raises(Interrupted):
        run(QUICK, data, tmp_path / "cut", should_stop=stop_after(stop))
    assert not (tmp_path / "cut" / "summary.json").exists()
    resumed = run(QUICK, data, tmp_path / "cut")
    assert resumed.result == whole.summary().result
    assert resumed.num_steps == whole.summary().num_steps
    assert without_times(tmp_path / "cut") == without_times(whole.path)
    weights = [(path / "model.safetensors").read_bytes() for path in (whole.path, tmp_path / "cut")]
    assert weights[0] == weights[1]


def test_the_learning_rate_ends_where_it_would_on_full_data(data, tmp_path):
    config = replace(QUICK, epochs=6)
    run(config, data, tmp_path / "pruned")
    run(replace(config, policy="none"), data, tmp_path / "full")
    rates = {name: RunFolder(tmp_path / name).metrics()[-1].lr for name in ("pruned", "full")}
    assert rates["pruned"] == rates["full"]


@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize("normalizer", ["batch", "mean", "weights"])
def test_the_loss_told_of_a_pruned_epoch_is_that_of_all_data(data, tmp_path, normalizer, shrink):
    """With a model that stands still all epochs have the same loss, however many samples they keep."""
    config = replace(QUICK, policy="neyman", target=0.4, normalizer=normalizer, lr=1e-12)
    config = replace(config, shrink=shrink, batch_norm="plain")
    run(config, data, tmp_path)
    metrics = RunFolder(tmp_path).metrics()
    assert metrics[1].num_kept < 0.5 * metrics[0].num_kept
    losses = [m.train_loss for m in metrics]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=0.02)


@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_the_noise_of_pruned_epochs_is_recorded(data, tmp_path, shrink):
    """Random pruning of k of N samples has the noise N / k; that of other epochs is not recorded."""
    summary = run(replace(QUICK, epochs=4.5, policy="random", target=0.2, shrink=shrink), data, tmp_path)
    metrics = RunFolder(tmp_path).metrics()
    for m in metrics:
        pruned = m.effective_share is not None
        on_full_data = m.num_samples * min(1, 4.5 - m.epoch)  # the last epoch is cut short
        assert m.noise == (pytest.approx(on_full_data / m.num_kept) if pruned else None)
    noises = [m.noise for m in metrics if m.noise is not None]
    assert len(noises) == 4
    assert (summary.mean_noise, summary.most_noise) == (pytest.approx(sum(noises) / 4), max(noises))


def test_a_biased_policy_has_no_noise_that_is_known(data, tmp_path):
    summary = run(replace(QUICK, policy="rs2", target=0.2), data, tmp_path)
    assert summary.mean_noise is None
    assert all(m.noise is None for m in RunFolder(tmp_path).metrics())


def test_scores_of_another_run(data, tmp_path):
    run(replace(LOOKING, prior_scores="", warmup_epochs=1), data, tmp_path / "other")
    path = tmp_path / "other" / "scores.npz"
    config = replace(LOOKING, prior_scores=str(path))
    check_run(config, data)
    summary = run(config, data, tmp_path / "run")
    assert summary.num_forward == 0
    assert RunFolder(tmp_path / "run").metrics()[0].num_kept < 1400
    path.unlink()  # a finished run has newer ones
    assert run(config, data, tmp_path / "run") == summary
