"""Scores made before a run, each on an example worked out by hand or in another way."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.contest import contestants
from infobatch.lab.comparison.variants import Variant, kept_at_cost
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.report import read_comparison
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training import static_scores
from infobatch.lab.training.pauses import Interrupted, Pauses
from infobatch.lab.training.scoring_costs import SCORINGS, at_equal_cost, scoring_epochs
from infobatch.lab.training.static_scores import (
    SCORES,
    error_norms,
    forgetting_events,
    gradient_norms,
    make_scores,
    train_network,
)
from infobatch.lab.training.train import train
from infobatch.lab.training.validate import check_config
from infobatch.policies import POLICIES, Static, takes

CONFIG = TrainConfig(data="digits", epochs=4, device="cpu", train_samples=150, delta=1, recipe="r")
STATIC = ("forgetting", "el2n", "grand")


@pytest.fixture(scope="module")
def data():
    return load_data("digits").split(0.0, 150)


NO_PAUSES = Pauses(Path(), lambda: False)


def test_every_policy_that_asks_for_scores_has_a_way_to_make_them():
    asking = {name for name in POLICIES if takes(name, "scores")}
    assert asking == set(SCORINGS) == set(SCORES) == set(STATIC)


def test_forgetting_is_right_and_then_wrong():
    # By sample: never right; always right; forgotten once and learned again; twice; right at last;
    # forgotten over an epoch in which it was not trained.
    history = [
        [0, 0, 0, 0],
        [1, 1, 1, 1],
        [1, 0, 0, 1],
        [1, 0, 1, 0],
        [0, 0, 0, 1],
        [1, -1, 0, -1],
    ]
    events = forgetting_events(torch.tensor(history, dtype=torch.int8).T)
    assert events.tolist() == [math.inf, 0, 1, 2, 0, 1]


def test_el2n_is_the_norm_of_the_error_on_plain_images(data):
    task = Classification(CONFIG, data)
    scores = error_norms(task)
    pixels = task.feed.normalize(data.train.pixels)
    with torch.no_grad():
        shares = task.model.eval()(pixels).softmax(1)
    for i in (0, 77, 149):
        label = int(data.train.labels[i])
        squares = [(float(p) - (c == label)) ** 2 for c, p in enumerate(shares[i])]
        assert float(scores[i]) == pytest.approx(math.sqrt(sum(squares)), rel=1e-5)


def test_grand_is_what_a_loop_of_autograd_gives(data):
    task = Classification(CONFIG, data)
    scores = gradient_norms(task)
    model = task.model.eval()
    for i in (0, 40, 149):  # of the first batch, the second, and the last
        model.zero_grad()
        image = task.feed.normalize(data.train.pixels[i : i + 1])
        F.cross_entropy(model(image), data.train.labels[i : i + 1]).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert float(scores[i]) == pytest.approx(float(gradient.norm()), rel=1e-4)


def test_scores_are_means_over_networks_of_their_own(data, monkeypatch):
    seeds, means = [], []
    for num_networks in (1, 2):
        monkeypatch.setitem(SCORINGS, "el2n", replace(SCORINGS["el2n"], num_networks=num_networks))
        means.append(make_scores(replace(CONFIG, policy="el2n"), data, NO_PAUSES))
    made = static_scores.train_network

    def noted(config, *rest):
        seeds.append(config.seed)
        assert (config.policy, config.target, config.epochs) == ("none", None, 1)
        return made(config, *rest)

    monkeypatch.setattr(static_scores, "train_network", noted)
    again = make_scores(replace(CONFIG, policy="el2n", target=0.2, mixup=0.5), data, NO_PAUSES)
    assert len(set(seeds)) == 2
    assert CONFIG.seed not in seeds
    assert torch.equal(again, means[1])
    assert not torch.allclose(means[0], means[1])


def test_what_a_network_had_right_is_noted_by_epoch(data):
    own = replace(CONFIG, policy="none", epochs=3, drop_last=True, batch_size=40)
    _, history = train_network(own, data, NO_PAUSES)
    assert history.shape == (3, 150)
    assert (history >= 0).sum(1).tolist() == [120] * 3  # three batches of 40
    assert set(history.unique().tolist()) == {-1, 0, 1}


def test_what_scoring_costs():
    # Of 200 epochs: one network for 40; two for 10, and a look at a third; two for 10, and one at 1.
    config = replace(CONFIG, epochs=200)
    costs = [scoring_epochs(replace(config, policy=name)) for name in STATIC]
    assert costs == pytest.approx([40, 2 * (10 + 1 / 3), 2 * (10 + 1)])
    assert scoring_epochs(replace(config, policy="rcap")) == 0
    at_least = [scoring_epochs(replace(config, policy=name, epochs=5)) for name in STATIC]
    assert at_least == pytest.approx([2, 2 * (1 + 1 / 3), 2 * 2])


def test_the_run_leaves_out_what_scoring_costs_too():
    config = replace(CONFIG, epochs=10, policy="forgetting", target=0.3)
    assert at_equal_cost(config).target == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"scores cost 20 % of the run, and no more than 15 % may be"):
        at_equal_cost(replace(config, target=0.85))
    other = replace(config, policy="random")
    assert at_equal_cost(other) is other


def test_a_saving_that_scoring_leaves_nothing_of_is_told_of():
    labels = torch.arange(1000) % 10
    variants, reasons = contestants(
        replace(CONFIG, epochs=10), [*STATIC, "rcap"], [0.3, 0.7], len(labels), labels
    )
    assert {v.policy for v in variants if v.target == 0.3} == {*STATIC, "rcap"}
    assert {v.policy for v in variants if v.target == 0.7} == {"forgetting", "el2n", "rcap"}
    assert [reason for reason in reasons if "batch" not in reason] == [
        "grand does not take part at 70 % saved: its scores cost 40 % of the run, and no more than 30 % "
        "may be spent in all; save less, or make the run longer."
    ]


def test_random_pruning_is_given_what_scoring_cost():
    assert kept_at_cost([50, 50, 50], 100, 240.0) == [80, 80, 80]
    assert kept_at_cost([100, 50, 60, 100], 100, 310.0) == [100, 50, 60, 100]
    assert kept_at_cost([100, 50, 60, 100], 100, 330.0) == [100, 60, 70, 100]


def test_scores_are_kept_in_the_runs_folder(data, tmp_path, monkeypatch):
    config = replace(CONFIG, policy="el2n", warmup_epochs=0, target=0.5)
    folder = RunFolder(tmp_path)
    folder.create(config)
    steps = iter(range(100))
    with pytest.raises(Interrupted):  # four questions while scoring, then at the first step
        train(config, data, folder, should_stop=lambda: next(steps) == 4)
    scores, seconds = folder.load_static_scores()
    assert scores.shape == (150,)
    assert seconds > 0
    monkeypatch.setattr(static_scores, "make_scores", None)  # would fail if it were called
    summary = train(config, data, folder)
    assert summary.num_scoring == pytest.approx(150 * 2 * 4 / 3)
    assert summary.cost == pytest.approx(0.5 * 4 * 150 + summary.num_scoring)
    assert summary.seconds > seconds
    kept = select_highest(scores, 75)
    assert set(np.flatnonzero(folder.scores()["visits"].numpy()).tolist()) == kept
    assert set(folder.scores()["visits"].tolist()) == {0, 4}


def select_highest(scores, num):
    return set(Static(scores).ranked[:num].tolist())


def test_scoring_can_be_stopped(data, tmp_path):
    config = replace(CONFIG, policy="grand", warmup_epochs=0)
    folder = RunFolder(tmp_path)
    folder.create(config)
    with pytest.raises(Interrupted):
        train(config, data, folder, should_stop=lambda: True)
    assert folder.load_static_scores() is None


def test_damaged_scores_are_refused(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "static-scores.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"static-scores.npz is damaged .* remove it to make them anew"):
        folder.load_static_scores()


def test_static_and_class_aware_policies_meet_a_contest_at_equal_cost(call, tmp_path):
    options = ["--data", "digits", "--epochs", 6, "--device", "cpu", "--train-samples", 300]
    options += ["--save", "30", "--seeds", 1, "--eval-every", 6, "--out", tmp_path]
    policies = [*STATIC, "class-quotas", "rcap"]
    code, output, error = call("contest", *options, "--policies", ",".join(policies))
    assert code == 0, error
    assert "EL2N, 30 % saved (biased)" in output
    results = read_comparison(tmp_path / "mnist5k-small-cnn")
    cost = {arm.label: results.cost(arm) for arm in results.arms if arm.kind != "full"}
    assert len(cost) >= len(policies) + 2  # fewer epochs and random pruning, too
    assert list(cost.values()) == pytest.approx([0.7] * len(cost), abs=0.005)
    metrics = RunFolder(tmp_path / "mnist5k-small-cnn/el2n-save-30/pruned/seed-0").metrics()
    # All six epochs alike, but for rounding: 70 % of 6 epochs less 2 x (1 + 1/3), by 6
    assert {m.num_kept for m in metrics} == {76, 77}
    assert sum(m.num_kept for m in metrics) == round(300 * (0.7 * 6 - 2 * 4 / 3))


def test_static_pruning_has_no_warm_up_and_no_annealing(call, tmp_path):
    options = ["--data", "digits", "--epochs", 4, "--device", "cpu", "--train-samples", 150]
    options += ["--policy", "forgetting", "--prune-ratio", 0.4, "--out", tmp_path / "run"]
    code, _, error = call("train", *options, "--delta", 0.5)
    assert code == 2
    assert "--delta is 0.5, but forgetting keeps the same samples" in error
    code, _, error = call("train", *options)
    assert code == 0, error
    assert {m.num_kept for m in RunFolder(tmp_path / "run").metrics()} == {90}


@pytest.mark.parametrize("policy", ["rcap", "class-quotas", "rcap:beta=0.5"])
def test_the_labels_are_the_data_sets(call, tmp_path, policy):
    options = ["--data", "digits", "--epochs", 3, "--device", "cpu", "--train-samples", 150]
    code, _, error = call("train", *options, "--policy", policy, "--out", tmp_path / "run")
    assert code == 0, error
    assert min(m.num_kept for m in RunFolder(tmp_path / "run").metrics()) < 110


def test_labels_cannot_be_typed():
    with pytest.raises(ValueError, match="its labels come from the data set, leave them out"):
        check_config(replace(CONFIG, policy="rcap:labels=3"))
    check_config(replace(CONFIG, policy="rcap:beta=2"))


def test_a_variant_of_static_scores_has_its_own_schedule(tmp_path):
    config = replace(CONFIG, epochs=10, warmup_epochs=1, delta=0.5)
    comparison = Comparison(config, (), 1, 0.5, tmp_path)
    static = comparison.pruned_config(Variant("forgetting", 0.5, 0.3))
    assert (static.warmup_epochs, static.delta, static.target) == (0, 1.0, 0.5)
    other = comparison.pruned_config(Variant("rcap", 0.5, 0.3))
    assert (other.warmup_epochs, other.delta, other.target) == (1, 0.5, 0.3)
