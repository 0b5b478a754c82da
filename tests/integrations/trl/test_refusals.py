"""What does not go together with pruning in TRL is refused, with the reason and the remedy."""

import datasets
import pytest

pytest.importorskip("trl")

from trl import GRPOTrainer

from helpers.language import mixture_of_experts
from helpers.trl import NOTHING, SMALLER, WatchedGRPO, WatchedRLOO, prompts, trainer
from infobatch import NoiseBudget, RandomPruning
from infobatch.integrations.trl.refusals import check_trainer
from infobatch.policies import Kakurenbo

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing.*` is deprecated:FutureWarning"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale_rewards": "batch"}, "scale_rewards is 'batch': it divides.*take 'group' or 'none'"),
        (
            {"multi_objective_aggregation": "normalize_then_sum"},
            "multi_objective_aggregation is 'normalize_then_sum': it divides advantages",
        ),
        ({"loss_type": "bnpo"}, "loss_type is 'bnpo': it divides by the number of tokens of each"),
        ({"top_entropy_quantile": 0.2}, "top_entropy_quantile is 0.2: it trains the tokens above"),
        ({"entropy_coef": 0.1}, "entropy_coef is 0.1: the bonus is not multiplied"),
        ({"use_adaptive_entropy": True}, "use_adaptive_entropy is True: the bonus is not"),
        ({"shuffle_dataset": False}, "shuffle_dataset is False: the order of an epoch"),
        ({"ignore_data_skip": True}, "ignore_data_skip is True: a resumed run would train"),
        ({"data": prompts(3)}, "the dataset has 3 prompts and a generation 4"),
    ],
)
def test_settings_that_change_what_is_trained(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, pruning=NOTHING, **arguments)


def test_a_kl_term_is_refused_in_the_loss(tmp_path):
    made = trainer(tmp_path, pruning=NOTHING)
    made.args.beta = 0.04  # only now, for TRL would load its reference model by name
    with pytest.raises(ValueError, match=r"beta is 0.04: the loss then has a KL term.*leave it at 0"):
        check_trainer(made, NOTHING)


def test_the_loss_of_a_router_is_refused(tmp_path):
    experts = mixture_of_experts()
    with pytest.raises(ValueError, match=r"router adds a loss, times router_aux_loss_coef = 0\.5, that"):
        trainer(tmp_path, pruning=NOTHING, model=experts)
    trainer(tmp_path, pruning=NOTHING, model=experts, router_aux_loss_coef=0.0)


def test_rloo_with_normalized_advantages(tmp_path):
    with pytest.raises(ValueError, match=r"normalize_advantages is True: it divides.*leave it off"):
        trainer(tmp_path, WatchedRLOO, pruning=NOTHING, beta=0.0, normalize_advantages=True)


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({"normalizer": "mean"}, "normalizer is 'mean'; advantages are multiplied by weights whose"),
        ({"num_epochs": 3}, "num_epochs=3; TRL's trainer takes it from"),
        ({"rank": 1}, "rank=1; TRL's trainer takes it from"),
        ({"policy": Kakurenbo()}, "goes by the losses of all samples, and TRL's trainer does not fetch"),
    ],
)
def test_options_that_are_the_trainers(pruning, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, pruning=pruning)


def test_a_policy_in_place_of_options(tmp_path):
    with pytest.raises(TypeError, match="give options: pruning="):
        trainer(tmp_path, pruning=NoiseBudget())


def test_prompts_without_indices(tmp_path):
    stream = datasets.IterableDataset.from_generator(lambda: iter([{"prompt": "w1"}] * 8))
    with pytest.raises(TypeError, match="IterableDataset, whose prompts have no indices"):
        trainer(tmp_path, pruning=NOTHING, data=stream, max_steps=3)


def test_a_run_that_ends_within_a_generation(tmp_path):
    made = trainer(tmp_path, pruning=NOTHING, num_iterations=2, max_steps=15)
    with pytest.raises(ValueError, match=r"end 3 optimizer steps into.*a generation is trained in 2 "):
        made.train()


def test_generations_that_cannot_shrink(tmp_path):
    made = trainer(tmp_path, pruning=SMALLER, per_device_train_batch_size=1, steps_per_generation=16)
    with pytest.raises(ValueError, match=r"has 4 prompts, and .* multiple of 4, .*shrink='steps'"):
        made.train()


def test_a_loader_of_ones_own(tmp_path):
    class Own(WatchedGRPO):
        get_train_dataloader = GRPOTrainer.get_train_dataloader

    with pytest.raises(RuntimeError, match="no 'infobatch_indices': get_train_dataloader of Own"):
        trainer(tmp_path, Own, pruning=NOTHING).train()


class Confident(RandomPruning):
    """A policy that reads what a group of completions has not."""

    columns = ("confidence",)


def test_a_policy_that_reads_more_than_a_spread(tmp_path):
    with pytest.raises(ValueError, match="reads confidences, and a group of completions has only"):
        trainer(tmp_path, pruning={"policy": Confident()})


class Room:
    """An environment that makes its prompts itself."""

    def reset(self, **row):
        return None


def test_rows_that_stand_for_another_prompt_each_time(tmp_path):
    made = trainer(tmp_path, pruning=NOTHING, data=datasets.Dataset.from_dict({"prompt": ["w1"] * 8}))
    made.environment_factories = {None: Room}
    with pytest.raises(ValueError, match="all rows of the dataset are equal, as where an environment"):
        check_trainer(made, NOTHING)
