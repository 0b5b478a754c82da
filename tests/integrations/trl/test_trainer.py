"""GRPO and RLOO of TRL with pruning: nothing pruned, prompts left out, rewards of all kinds."""

import copy
import math
from itertools import chain

import numpy as np
import pytest
import torch

pytest.importorskip("trl")

import trl

from helpers.language import parameters
from helpers.trl import (
    NOTHING,
    NUM_GENERATIONS,
    SMALLER,
    VARYING,
    StockGRPO,
    StockRLOO,
    WatchedGRPO,
    WatchedRLOO,
    prompts,
    reward,
    trainer,
)
from infobatch import InfoBatch, NoiseBudget, RandomPruning
from infobatch.integrations.transformers.items import MeanItems, sums_of
from infobatch.integrations.trl import GRPOPruningMixin

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*` is deprecated:FutureWarning"),
]

GRPO, RLOO = (StockGRPO, WatchedGRPO), (StockRLOO, WatchedRLOO)
SEVERAL = {
    "num_iterations": 2,
    "per_device_train_batch_size": 4,
    "steps_per_generation": 4,
    "gradient_accumulation_steps": 2,
}


@pytest.mark.parametrize(
    ("kinds", "arguments"),
    [
        (GRPO, {"optim": "adamw_torch", "learning_rate": 0.01}),
        (GRPO, {**SEVERAL, "loss_type": "grpo", "lr_scheduler_type": "cosine"}),
        (GRPO, {"max_steps": 8, "remove_unused_columns": False, "num_train_epochs": 1}),
        (RLOO, {**SEVERAL, "beta": 0.0}),
    ],
    ids=["adam", "iterations", "max_steps", "rloo"],
)
def test_nothing_pruned_is_the_stock_trainer(kinds, arguments, tmp_path):
    stock = trainer(tmp_path, kinds[0], **arguments)
    expected = stock.train()
    ours = trainer(tmp_path, kinds[1], pruning=NOTHING, **arguments)  # which seeds the generation
    got = ours.train()
    assert (parameters(stock.model) - parameters(ours.model)).abs().max() < 1e-6
    assert got.training_loss == pytest.approx(expected.training_loss, rel=1e-6)
    assert ours.notes.rates == stock.notes.rates
    assert ours.advantages == stock.advantages
    assert ours.state.global_step == stock.state.global_step == ours.state.max_steps


def root_mean_squares(advantages):
    return advantages.view(-1, NUM_GENERATIONS).square().mean(1).sqrt()


@pytest.mark.parametrize("arguments", [{}, SEVERAL], ids=["once", "iterations"])
def test_prompts_are_left_out_in_whole_groups_and_weighted(arguments, tmp_path):
    ours = trainer(tmp_path, pruning=VARYING, num_train_epochs=5, **arguments)
    plain = []

    def noting(outputs, indices, weighted=ours._weighted):
        plain.append(outputs["advantages"].clone())
        return weighted(outputs, indices)

    ours._weighted = noting
    ours.train()
    report = ours.pruner.report()
    assert report.saved > 0.2
    assert report.noise > 1
    generations = [np.array(rows).reshape(-1, NUM_GENERATIONS) for rows in ours.seen]
    assert all((rows == rows[:, :1]).all() for rows in generations)
    assert {len(rows) for rows in generations} == {4}
    assert len(generations) * 4 == report.num_recorded
    steps_of_one = ours.state.global_step / len(generations)
    assert steps_of_one == (4 if arguments else 1)
    assert ours.state.global_step == ours.state.max_steps
    assert set(ours.lr_scheduler.get_last_lr()) == {0}

    # The last epoch: its prompts once each, with relative weights, and their spreads as scores.
    num_last = report.epochs[-1].num_selected // 4
    last = np.concatenate([rows[:, 0] for rows in generations[-num_last:]])
    assert sorted(last.tolist()) == ours.pruner.selection.indices.tolist()
    weights = ours.pruner.weights(last) / ours.pruner.weight_divisor
    assert weights.mean() == pytest.approx(1)
    assert weights.min() < 0.9 < 1.1 < weights.max()
    unweighted = torch.cat(plain[-num_last:])
    given = torch.tensor(ours.advantages[-num_last:]).flatten()
    assert torch.allclose(given, unweighted * weights.repeat_interleave(NUM_GENERATIONS))
    scores = ours.pruner.scores
    assert torch.allclose(scores["last_loss"][last], root_mean_squares(unweighted))
    assert torch.equal(scores.last_norms[last], scores["last_loss"][last])


@pytest.mark.parametrize("arguments", [{}, SEVERAL], ids=["once", "iterations"])
def test_smaller_generations_in_as_many_steps(arguments, tmp_path):
    arguments = {**arguments, "per_device_train_batch_size": 8 if arguments else 32}
    ours = trainer(tmp_path, pruning=SMALLER, num_train_epochs=5, **arguments)
    ours.train()
    report, num_steps = ours.pruner.report(), 4 if "num_iterations" in arguments else 1
    assert report.saved > 0.2
    sizes = [len(rows) // NUM_GENERATIONS for rows in ours.seen]
    assert len(sizes) == 5 * 3
    assert sizes[:3] == [8] * 3
    assert sum(sizes) == report.num_recorded
    assert max(sizes[3:]) < 8
    assert ours.state.global_step == ours.state.max_steps == 5 * 3 * num_steps
    last = np.concatenate([np.array(rows)[::NUM_GENERATIONS] for rows in ours.seen[-3:]])
    assert sorted(last.tolist()) == ours.pruner.selection.indices.tolist()
    given = torch.cat([torch.tensor(values) for values in ours.advantages[-3:]])
    weights = ours.pruner.weights(last)
    scores = ours.pruner.scores["last_loss"][last] * weights
    assert torch.allclose(root_mean_squares(given), scores)
    assert ours.pruner.plan.shrink.multiple == 1


def test_tokens_are_those_that_all_prompts_had_in_the_epoch_before(tmp_path):
    pruning = {**SMALLER, "policy": NoiseBudget(max_noise=None), "target": [0, 12, 12]}
    ours = trainer(tmp_path, pruning=pruning, per_device_train_batch_size=32)
    ours.train()
    ours._mean_tokens = MeanItems()
    ours._mean_tokens.add(1, sums_of(torch.tensor([2, 4]), torch.tensor([1.0, 3.0])))
    ours.pruner.relative_weights = lambda indices: torch.tensor([2.0, 0.5, 1.0, 1.0])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]])
    outputs = {
        "advantages": torch.ones(4),
        "completion_mask": mask,
        "num_items_in_batch": mask.sum(),
    }
    weighted = ours._weighted(outputs, [0, 1, 2, 3])
    assert weighted["advantages"].tolist() == [2, 0.5, 1, 1]
    assert weighted["num_items_in_batch"] == 4 * 3.5
    ours._mean_tokens = MeanItems()
    assert ours._weighted(outputs, [0, 1, 2, 3])["num_items_in_batch"] == 9, "with weights, at first"
    tools = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 1, 1], [1, 1, 1]])
    assert ours._weighted({**outputs, "tool_mask": tools}, [0, 1, 2, 3])["num_items_in_batch"] == 6


def test_left_out_prompts_are_those_without_spread(tmp_path):
    ours = trainer(tmp_path, pruning={"policy": InfoBatch(0.9), "delta": 1}, num_train_epochs=6)
    ours.train()
    visits = ours.pruner.scores["visits"].float()
    varied = torch.tensor([kind == "varied" for kind in prompts()["kind"]])
    assert visits[varied].mean() > 5
    assert visits[~varied].mean() < 4


def odd(completions, **others):
    return [float(len(text) % 2) for text in completions]


def missing_on_easy(completions, kind, **others):
    return [None if of == "easy" else math.nan if of == "hopeless" else 1.0 for of in kind]


def test_several_rewards_are_scored_as_their_sum(tmp_path):
    ours = trainer(tmp_path, pruning=VARYING, rewards=[reward, odd], reward_weights=[1.0, 0.5])
    ours.train()
    easy = torch.tensor([kind == "easy" for kind in prompts()["kind"]])
    assert (ours.pruner.scores["last_loss"][easy] > 0.5).any(), "the second reward has a spread"


def test_a_group_without_rewards_keeps_its_score(tmp_path):
    ours = trainer(tmp_path, pruning=VARYING, rewards=missing_on_easy)
    ours.train()
    scores = ours.pruner.scores["last_loss"]
    varied = torch.tensor([kind == "varied" for kind in prompts()["kind"]])
    assert scores[~varied].isnan().all()
    assert (scores[varied] == 0).all()
    assert ours.pruner.report().num_nonfinite == 0


def infinite_on_easy(completions, kind, **others):
    return [-math.inf if of == "easy" and i % 4 == 0 else i % 2.0 for i, of in enumerate(kind)]


def test_a_group_with_an_infinite_reward_keeps_its_score(tmp_path):
    ours = trainer(tmp_path, pruning=VARYING, rewards=infinite_on_easy)
    ours.train()
    easy = torch.tensor([kind == "easy" for kind in prompts()["kind"]])
    assert ours.pruner.scores["last_loss"][easy].isnan().all()
    assert (ours.pruner.scores["last_loss"][~easy] > 0).all()


def test_large_rewards_that_are_equal_have_no_spread(tmp_path):
    ours = trainer(
        tmp_path,
        pruning=VARYING,
        rewards=lambda completions, **others: [1000.1] * len(completions),
        num_generations=8,
        per_device_train_batch_size=16,
    )
    ours.train()
    assert (ours.pruner.scores["last_loss"] == 0).all()


def test_scores_of_rloo_have_the_divergence_that_is_in_its_rewards(tmp_path):
    """Groups of equal rewards then have advantages, and are trained by them."""
    ours = trainer(tmp_path, WatchedRLOO, VARYING, beta=0.0, num_train_epochs=1)
    ours.beta, ours.ref_model = 0.5, copy.deepcopy(ours.model).eval()  # TRL loads it by its name
    torch.nn.init.normal_(ours.ref_model.lm_head.weight)
    ours.train()
    rows = zip(chain(*ours.seen), chain(*ours.advantages), strict=True)
    squares = {}
    for prompt, advantage in rows:
        squares.setdefault(prompt, []).append(advantage**2)
    expected = torch.tensor([sum(squares[i]) / NUM_GENERATIONS for i in range(24)]).sqrt()
    assert {len(of) for of in squares.values()} == {NUM_GENERATIONS}
    assert expected.min() > 0
    torch.testing.assert_close(ours.pruner.scores["last_loss"], expected)


class OfTokens(trl.GRPOTrainer):
    """Advantages of tokens."""

    def _generate_and_score_completions(self, inputs):
        outputs = super()._generate_and_score_completions(inputs)
        length = outputs["completion_ids"].shape[1]
        return {**outputs, "advantages": outputs["advantages"][:, None].expand(-1, length)}


class PrunedOfTokens(GRPOPruningMixin, OfTokens):
    pass


def test_advantages_of_tokens_are_those_of_their_completion(tmp_path):
    both = []
    for kind in (PrunedOfTokens, WatchedGRPO):
        made = trainer(tmp_path, kind, pruning=VARYING)
        made.train()
        both.append(made.pruner.scores)
    scores, whole = both
    assert torch.equal(scores["visits"], whole["visits"])
    assert torch.allclose(scores["last_loss"], whole["last_loss"], atol=1e-6)


def test_evaluation_is_trls_own(tmp_path):
    arguments = {"eval_strategy": "epoch", "per_device_eval_batch_size": 4, "logging_strategy": "epoch"}
    logs = []
    for kind, pruning in ((StockGRPO, None), (WatchedGRPO, NOTHING)):
        made = trainer(tmp_path, kind, pruning=pruning, num_train_epochs=2, **arguments)
        made.train()
        logs.append([line["eval_reward"] for line in made.state.log_history if "eval_reward" in line])
    assert len(logs[0]) == 2
    assert logs[0] == logs[1]


def test_max_steps_counts_steps_of_full_data(tmp_path):
    pruning = {"policy": RandomPruning(), "target": [0, 12, 12]}
    ours = trainer(tmp_path, pruning=pruning, max_steps=15)
    ours.train()
    assert [len(ours.seen), ours.state.global_step, ours.state.max_steps] == [6 + 3 + 1] * 3
    assert set(ours.lr_scheduler.get_last_lr()) == {0}


def test_a_trainer_trains_anew(tmp_path):
    ours = trainer(tmp_path, pruning=VARYING, num_train_epochs=2)
    ours.train()
    num_seen, first = len(ours.seen), ours.pruner
    ours.train()
    assert ours.pruner is not first
    assert len(ours.seen[num_seen:]) == ours.state.global_step


@pytest.mark.parametrize("pruning", [None, {}, {"policy": None}], ids=str)
def test_a_budget_with_smaller_generations_is_the_default(pruning, tmp_path):
    """Of whole micro-batches, or some of their completions would never be trained."""
    batches = {"per_device_train_batch_size": 2, "steps_per_generation": 8}
    pruner = trainer(tmp_path, pruning=pruning, **batches).pruner
    assert isinstance(pruner.policy, NoiseBudget)
    assert pruner.policy.by == "smoothed_norm"
    assert pruner.plan.shrink.multiple == 2


def test_a_target_alone_is_met(tmp_path):
    ours = trainer(tmp_path, pruning={"target": [0, 12, 12]}, per_device_train_batch_size=32)
    ours.train()
    assert ours.pruner.policy.by == "smoothed_norm"
    assert [epoch.num_selected for epoch in ours.pruner.report().epochs] == [24, 12, 12]
    assert ours.state.global_step == 3 * 3, "smaller generations in as many steps"
