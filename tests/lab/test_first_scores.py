"""Scores known before the first epoch: of a look at all samples, or of another run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import run, stop_after
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.contest import contestants
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.validate import check_config, check_run

LOOKING = TrainConfig(
    data="digits", epochs=3, batch_size=128, device="cpu", prior_scores="pass", warmup_epochs=0
)


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def test_a_look_prunes_the_first_epoch_by_the_losses_of_the_initial_weights(data, tmp_path):
    summary = run(replace(LOOKING, epochs=1, delta=1.0, lr=1e-9), data, tmp_path)
    task = Classification(LOOKING, data)
    task.begin(0)
    indices = np.arange(1400)
    losses = task.eval_outputs(task.inputs(torch.from_numpy(indices), indices)).losses.numpy()
    weights = RunFolder(tmp_path).scores()["weight"].numpy()
    above = losses >= losses.mean() * (1 + 1e-5)
    below = losses < losses.mean() * (1 - 1e-5)
    assert (weights[above] == 1).all()
    assert (weights[below] == 0).mean() == pytest.approx(0.5, abs=0.01)
    assert summary.num_forward == 1400
    assert summary.cost == pytest.approx(summary.num_trained + 1400 / 3)


@pytest.mark.parametrize("stop", [1, 12, 15, 24])
def test_an_interrupted_run_goes_on_bit_for_bit(data, tmp_path, stop):
    """The first 11 questions are asked between forward passes, which a resumed run repeats."""
    whole = run(LOOKING, data, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(LOOKING, data, tmp_path / "cut", should_stop=stop_after(stop))
    assert (tmp_path / "cut" / "checkpoint.pt").exists() == (stop > 11)
    assert run(LOOKING, data, tmp_path / "cut").result == whole.result
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


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


def test_in_a_contest_a_look_is_part_of_the_cost():
    config = replace(LOOKING, epochs=10)
    variants, _ = contestants(config, ["proportional", "random", "ies"], [0.3], 1400)
    targets = {variant.policy: variant.config(config) for variant in variants}
    assert targets["proportional"].target == pytest.approx(0.3 + 1 / 30)
    assert targets["proportional"].prior_scores == "pass"
    assert (targets["random"].target, targets["random"].prior_scores) == (0.3, "")
    assert targets["ies"].target == pytest.approx((0.3 + 1 / 30) * 1.5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"warmup_epochs": 1}, ValueError, "--warmup-epochs 1: .* give --warmup-epochs 0 to prune"),
        ({"policy": "none"}, ValueError, "--prior-scores is pass, and --policy none reads none"),
        (
            {"prior_scores": "no.npz"},
            FileNotFoundError,
            r"--prior-scores is no\.npz, and there is no such file",
        ),
    ],
)
def test_scores_without_effect_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        check_config(replace(LOOKING, **options))


def test_scores_of_other_data_are_refused_before_training(data, tmp_path):
    np.savez(tmp_path / "scores.npz", last_loss=np.ones(7, np.float32))
    with pytest.raises(ValueError, match=r"scores of .* have shape \(7,\), and the dataset has 1,400"):
        check_run(replace(LOOKING, prior_scores=str(tmp_path / "scores.npz")), data)


def test_scores_of_a_run_on_other_samples_are_refused_before_training(data, tmp_path):
    (tmp_path / "subset.json").write_text(str(list(range(900))))
    other = replace(LOOKING, prior_scores="", warmup_epochs=1, epochs=1, subset=tmp_path / "subset.json")
    run(other, data.subset(torch.arange(900)), tmp_path / "other")
    config = replace(LOOKING, prior_scores=str(tmp_path / "other" / "scores.npz"), train_samples=900)
    message = r"scores\.npz are of a run with --subset .*subset\.json, and this one has --subset None"
    with pytest.raises(ValueError, match=message):
        check_run(config, data.split(0, 900))
    check_run(replace(config, subset=other.subset, train_samples=0), data.subset(torch.arange(900)))
