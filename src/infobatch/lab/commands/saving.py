"""How much is to be left out, as it was typed."""

from __future__ import annotations

from infobatch.lab.comparison.contest import distinct_policies
from infobatch.lab.comparison.variants import Variant, reads_ratio
from infobatch.lab.config.noise_budget import with_budgets
from infobatch.lab.config.policy_spec import name_of
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.names import choose
from infobatch.policies import POLICIES


def variants_of(
    config: TrainConfig, policies: str, prune_ratio: str, noise: str = "", has_target: bool = False
) -> list[Variant]:
    """The variants of a sweep.

    Args:
        config: The options that runs share.
        policies: The policies, separated by commas.
        prune_ratio: Prune ratios, separated by commas, for those policies that have one.
        noise: Budgets of noise, separated by commas, for those policies that have one; empty for their
            own.
        has_target: Whether a target says how much is left out, so that most prune ratios do not matter.

    Returns:
        Each policy at each ratio or budget, each once.

    Raises:
        ValueError: If a policy does not exist or is named twice, or a ratio is no number.
    """
    ratios = numbers("--prune-ratio", prune_ratio, "0.3,0.5,0.7")
    variants = []
    names = [name.strip() for name in policies.split(",")]
    for policy in names:
        choose("policy", name_of(policy), POLICIES)
    for policy in distinct_policies(config, with_budgets(names, budgets(noise))):
        has_ratio = reads_ratio(policy, has_target)
        variants += [Variant(policy, ratio) for ratio in ratios] if has_ratio else [Variant(policy)]
    return list(dict.fromkeys(variants))


def budgets(noise: str) -> list[float]:
    """Budgets of noise that were typed.

    Args:
        noise: Numbers, separated by commas; empty for none.

    Returns:
        Each of them once.

    Raises:
        ValueError: If a part is no number.
    """
    return list(dict.fromkeys(numbers("--noise", noise, "1.05,1.1,1.5"))) if noise else []


def numbers(flag: str, text: str, example: str) -> list[float]:
    """Numbers that are separated by commas.

    Args:
        flag: The option that gave them, for the error.
        text: What was typed.
        example: What could be typed, for the error.

    Returns:
        The numbers.

    Raises:
        ValueError: If a part is no number.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{flag} is {text!r}; give numbers, such as {example}") from None


def share_of(percentage: float, flag: str, typed: object) -> float:
    """A percentage of the samples to leave out, as a share.

    Args:
        percentage: The percentage, in [1, 100).
        flag: The option that gave it, for the error.
        typed: What was typed, for the error.

    Returns:
        The share, in [0.01, 1).

    Raises:
        ValueError: If the percentage is outside its range.
    """
    if not 1 <= percentage < 100:
        raise ValueError(f"{flag} is {typed!r}; give percentages from 1 on and below 100, such as 30")
    return percentage / 100


def refuse_both(noise: str, other: str) -> None:
    """Refuse a budget of noise beside what else says how much is left out.

    Args:
        noise: What was typed of it.
        other: The other option, as typed.

    Raises:
        ValueError: In any case.
    """
    raise ValueError(
        f"--noise is {noise} and {other}, and each says how much is left out; give one of them"
    )


def refuse_target(typed: TrainConfig, save: str) -> None:
    """Refuse ``--target`` beside ``--save``, of which it is a form.

    Args:
        typed: The options with no target but one that was typed.
        save: What was typed of it.

    Raises:
        ValueError: If there is a target.
    """
    if typed.target is not None:
        raise ValueError(
            f"--save is {save} and --target {typed.target}, and each says how much is left out; give "
            "one of them"
        )
