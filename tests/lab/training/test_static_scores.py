"""Scores made before a run, each on an example worked out by hand or in another way."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from helpers.digits import SCORED, STATIC
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training import static_scores
from infobatch.lab.training.pauses import Interrupted, Pauses
from infobatch.lab.training.scoring_costs import SCORINGS
from infobatch.lab.training.static_scores import (
    SCORES,
    error_norms,
    forgetting_events,
    gradient_norms,
    make_scores,
    train_network,
)
from infobatch.lab.training.train import train
from infobatch.policies import POLICIES, takes

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


def test_el2n_is_the_norm_of_the_error_on_plain_images(part):
    task = Classification(SCORED, part)
    scores = error_norms(task)
    pixels = task.feed.normalize(part.train.pixels)
    with torch.no_grad():
        shares = task.model.eval()(pixels).softmax(1)
    for i in (0, 77, 149):
        label = int(part.train.labels[i])
        squares = [(float(p) - (c == label)) ** 2 for c, p in enumerate(shares[i])]
        assert float(scores[i]) == pytest.approx(math.sqrt(sum(squares)), rel=1e-5)


def test_grand_is_what_a_loop_of_autograd_gives(part):
    task = Classification(SCORED, part)
    scores = gradient_norms(task)
    model = task.model.eval()
    for i in (0, 40, 149):  # of the first batch, the second, and the last
        model.zero_grad()
        image = task.feed.normalize(part.train.pixels[i : i + 1])
        F.cross_entropy(model(image), part.train.labels[i : i + 1]).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert float(scores[i]) == pytest.approx(float(gradient.norm()), rel=1e-4)


def test_scores_are_means_over_networks_of_their_own(part, monkeypatch):
    seeds, means = [], []
    for num_networks in (1, 2):
        monkeypatch.setitem(SCORINGS, "el2n", replace(SCORINGS["el2n"], num_networks=num_networks))
        means.append(make_scores(replace(SCORED, policy="el2n"), part, NO_PAUSES))
    made = static_scores.train_network

    def noted(config, *rest):
        seeds.append(config.seed)
        assert (config.policy, config.target, config.epochs) == ("none", None, 1)
        return made(config, *rest)

    monkeypatch.setattr(static_scores, "train_network", noted)
    again = make_scores(replace(SCORED, policy="el2n", target=0.2, mixup=0.5), part, NO_PAUSES)
    assert len(set(seeds)) == 2
    assert SCORED.seed not in seeds
    assert torch.equal(again, means[1])
    assert not torch.allclose(means[0], means[1])


def test_what_a_network_had_right_is_noted_by_epoch(part):
    own = replace(SCORED, policy="none", epochs=3, drop_last=True, batch_size=40)
    _, history = train_network(own, part, NO_PAUSES)
    assert history.shape == (3, 150)
    assert (history >= 0).sum(1).tolist() == [120] * 3  # three batches of 40
    assert set(history.unique().tolist()) == {-1, 0, 1}


def test_scoring_can_be_stopped(part, tmp_path):
    config = replace(SCORED, policy="grand", warmup_epochs=0)
    folder = RunFolder(tmp_path)
    folder.create(config)
    with pytest.raises(Interrupted):
        train(config, part, folder, should_stop=lambda: True)
    assert folder.load_static_scores() is None
