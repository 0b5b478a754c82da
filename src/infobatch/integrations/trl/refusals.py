"""What TRL's trainers offer that does not go together with pruning; each with its remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infobatch.integrations.refusals import Refusal, check_run_options, check_settings, other_than
from infobatch.integrations.transformers.batches import INDICES
from infobatch.integrations.transformers.refusals import check_epochs, own_loader
from infobatch.policies import Policy
from infobatch.scores.columns import COLUMNS, NORMS, SIGNALS


def check_trainer(trainer: Any, pruning: Mapping[str, Any]) -> None:
    """Refuse what would train something else than asked for, before training."""
    check_run_options(pruning, "TRL's trainer", "pruning", "its arguments and its groups")
    _check_policy(pruning.get("policy"))
    _check_options(pruning)
    check_settings(trainer.args, _REFUSED)
    if hasattr(trainer.args, "loss_type") and trainer.args.beta:  # RLOO has it in its rewards
        raise ValueError(
            f"beta is {trainer.args.beta}: the loss then has a KL term, which is not multiplied by the "
            "advantages and would count kept prompts alone, without their weights; leave it at 0"
        )
    if getattr(trainer, "aux_loss_enabled", False):
        raise ValueError(
            "the model is a mixture of experts, whose router adds a loss, times router_aux_loss_coef = "
            f"{trainer.router_aux_loss_coef}, that is not multiplied by the advantages and would count "
            "kept prompts alone, without their weights; give router_aux_loss_coef=0"
        )
    check_epochs(trainer)
    _check_dataset(trainer)


def _check_policy(policy: Policy | None) -> None:
    for column in () if policy is None else policy.columns:
        signal = COLUMNS[column].signal
        if signal in SIGNALS and signal != NORMS:
            raise ValueError(
                f"{policy!r} reads {signal}, and a group of completions has only the spread of its "
                "rewards, given as loss and as gradient norm; take a policy that goes by these"
            )


def _check_options(pruning: Mapping[str, Any]) -> None:
    if "normalizer" in pruning:
        raise ValueError(
            f"normalizer is {pruning['normalizer']!r}; advantages are multiplied by weights whose mean "
            "over an epoch is 1, and TRL divides as ever, so leave it out"
        )


def _check_dataset(trainer: Any) -> None:
    dataset, args = trainer.train_dataset, trainer.args
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(
            f"train_dataset is a {type(dataset).__name__}, whose prompts have no indices, and pruning "
            "keeps a score for each prompt; give a Dataset, such as Dataset.from_list(list(stream))"
        )
    num_prompts = args.generation_batch_size // args.num_generations
    if len(dataset) < num_prompts:
        raise ValueError(
            f"the dataset has {len(dataset)} prompts and a generation {num_prompts} "
            "(generation_batch_size / num_generations), so that an epoch has none; make it smaller"
        )
    if getattr(trainer, "environment_factories", None) and _all_are_equal(dataset):
        raise ValueError(
            "all rows of the dataset are equal, as where an environment makes the prompts itself, so "
            "that the score of a row says nothing of the prompt it stands for next time; give a dataset "
            "whose rows say which task to reset to, or train without pruning"
        )


def _all_are_equal(dataset: Any) -> bool:
    first = dataset[0]
    return len(dataset) > 1 and all(row == first for row in dataset)


_CHOSEN = "which of prompts chosen by score is another than of the data"

_REFUSED = {
    "scale_rewards": Refusal(
        lambda value: value == "batch",
        f"it divides advantages by the spread of the batch's rewards, {_CHOSEN}",
        "take 'group' or 'none'",
    ),
    "multi_objective_aggregation": Refusal(
        other_than("sum_then_normalize"),
        f"it divides advantages by the spread of the batch's rewards, {_CHOSEN}",
        "leave it at 'sum_then_normalize'",
    ),
    "normalize_advantages": Refusal(
        other_than(False),
        f"it divides advantages by their spread in the batch, {_CHOSEN}",
        "leave it off",
    ),
    "loss_type": Refusal(
        lambda value: value == "bnpo",
        f"it divides by the number of tokens of each micro-batch, {_CHOSEN}",
        "take 'dapo', whose tokens are counted with their weights, or another",
    ),
    "top_entropy_quantile": Refusal(
        other_than(1.0),
        f"it trains the tokens above a quantile of the batch's entropies, {_CHOSEN}",
        "leave it at 1.0",
    ),
    "entropy_coef": Refusal(
        other_than(0.0),
        "the bonus is not multiplied by the advantages and would count kept prompts alone, without "
        "their weights",
        "leave it at 0",
    ),
    "use_adaptive_entropy": Refusal(
        other_than(False),
        "the bonus is not multiplied by the advantages and would count kept prompts alone, without "
        "their weights",
        "leave it off",
    ),
    "shuffle_dataset": Refusal(
        other_than(True),
        "the order of an epoch is the pruner's own permutation",
        "leave it on",
    ),
}


def check_rows(rows: Sequence[Mapping[str, Any]], trainer: object) -> None:
    """Refuse rows of another loader than ours."""
    if not all(INDICES in row for row in rows):
        raise own_loader(trainer)


def check_can_shrink(part: int, num_prompts: int) -> None:
    """Refuse generations that cannot be made smaller.

    Args:
        part: Of what number the prompts of a generation are multiples.
        num_prompts: Those of a generation on full data.
    """
    if part >= num_prompts:
        raise ValueError(
            f"a generation has {num_prompts} prompts, and shared out among processes and micro-batches "
            f"it must have a multiple of {part}, so that it cannot shrink; make it larger "
            "(generation_batch_size), or take shrink='steps'"
        )


def check_ends_with_a_generation(num_updates: int, num_accumulated: int, num_batches: int) -> None:
    """Refuse a run that ends while completions are left to train.

    Args:
        num_updates: The optimizer steps of its last, shortened epoch.
        num_accumulated: The batches of a step.
        num_batches: The batches that are made of one generation.
    """
    if num_updates * num_accumulated % num_batches:
        raise ValueError(
            f"the run would end {num_updates} optimizer steps into its last epoch, and a generation is "
            f"trained in {num_batches / num_accumulated:g} (num_iterations x steps_per_generation / "
            "gradient_accumulation_steps); give max_steps or num_train_epochs that end with one"
        )
