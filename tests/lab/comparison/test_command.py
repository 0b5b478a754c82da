"""The command lines that repeat a comparison."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.comparisons import COMPARED, CONTEST, HALF
from infobatch.lab.comparison.command import commands_of
from infobatch.lab.comparison.comparison import Comparison
from infobatch.lab.comparison.variants import SAME_STEPS, UNDERSAMPLED, Variant
from infobatch.lab.config.train import of_table
from infobatch.lab.recipes import find_recipe

COMPARISON = Comparison(COMPARED, (HALF,), num_seeds=2, margin=0.5, path=Path("c"))


def command_of(comparison):
    (command,) = commands_of(comparison)
    return command


def test_one_variant_with_controls_is_a_comparison():
    options = "--data digits --epochs 4 --seed 3 --policy infobatch --seeds 2 --margin 0.5"
    assert command_of(COMPARISON) == f"infobatch compare {options}"
    third = replace(COMPARISON, variants=(Variant("infobatch", 0.3),), margin=None)
    assert "--prune-ratio 0.3" in command_of(third)
    assert "--margin" not in command_of(third)


def test_the_policy_of_a_recipe_is_typed_beside_a_target_which_alone_stands_for_another():
    """Without ``--policy`` a target is met by the policy that is made for targets."""
    config = replace(find_recipe("cifar10-resnet18").config(), target=0.3)
    for policy, typed in (("infobatch", "--policy infobatch "), ("spaced", "")):
        made = replace(COMPARISON, config=config, variants=(Variant(policy),), margin=None)
        command = command_of(made).replace("--target 0.3 ", "")
        assert command == f"infobatch compare cifar10-resnet18 {typed}--seeds 2"


def test_a_table_in_a_file_is_named_with_its_column():
    config, budget = of_table(Path("my data.csv"), "fraud", ""), Variant("noise-budget")
    made = replace(COMPARISON, config=config, variants=(budget,), margin=None)
    assert command_of(made) == "infobatch compare 'my data.csv:fraud' --seeds 2"
    made = replace(made, config=replace(of_table(Path("a.csv"), "price", "regression"), held_out=0.1))
    assert command_of(made) == "infobatch compare a.csv:price --task regression --held-out 0.1 --seeds 2"


def test_several_variants_are_a_sweep():
    variants = (Variant("infobatch", 0.3), Variant("infobatch", 0.5), Variant("percentile-tiers", 0.5))
    made = replace(COMPARISON, config=CONTEST, variants=variants, controls=False)
    assert command_of(made) == (
        "infobatch sweep mnist5k-small-cnn --seeds 2 --margin 0.5 "
        "--policies infobatch,percentile-tiers --prune-ratio 0.3,0.5 --no-controls"
    )


def test_ratios_of_policies_that_do_not_read_them_are_not_typed():
    """Where a target says how much is left out."""
    variants = (Variant("infobatch", 0.3), Variant("infobatch", 0.7), Variant("random"))
    config = replace(CONTEST, target=0.3)
    made = replace(COMPARISON, config=config, variants=variants, margin=None)
    assert command_of(made).endswith("--policies infobatch,random --prune-ratio 0.3,0.7")


def test_a_sweep_that_was_added_to_is_repeated_by_several_commands():
    mixed = (("noise-budget", 0.5), ("infobatch", 0.3), ("bls", 0.7), ("percentile-tiers", 0.5))
    variants = tuple(Variant(*each) for each in mixed)
    made = replace(COMPARISON, config=CONTEST, variants=variants, margin=None)
    first, second = commands_of(made)
    sweep = "infobatch sweep mnist5k-small-cnn --seeds 2"
    assert first == f"{sweep} --policies noise-budget,infobatch,percentile-tiers --prune-ratio 0.3"
    assert second == f"{sweep} --policies bls --prune-ratio 0.7"


def test_budgets_are_options_of_their_policy_or_of_a_contest():
    budgets = tuple(Variant(f"noise-budget:max_noise={noise}") for noise in (1.1, 1.5))
    made = replace(COMPARISON, config=CONTEST, variants=budgets, margin=None)
    policies = "noise-budget:max_noise=1.1,noise-budget:max_noise=1.5"
    command = f"infobatch sweep mnist5k-small-cnn --seeds 2 --policies {policies}"
    assert command_of(made) == command
    assert command_of(replace(made, also=(SAME_STEPS,))) == f"{command} --same-steps"
    assert command_of(replace(made, also=(UNDERSAMPLED,))) == f"{command} --undersampling"
    mixed = replace(made, variants=(*budgets, Variant("rs2", 0.5, 0.3)))
    options = "--seeds 2 --policies noise-budget,rs2 --save 30 --noise 1.1,1.5"
    assert command_of(mixed) == f"infobatch contest mnist5k-small-cnn {options}"


@pytest.mark.parametrize("policy", ["infobatch", "noise-budget"])
def test_variants_of_given_costs_are_a_contest(policy):
    """The policy of the options that they share is none of theirs."""
    variants = tuple(Variant(name, 0.5, share) for share in (0.3, 0.5) for name in ("random", "rs2"))
    config = replace(CONTEST, policy=policy)
    made = replace(COMPARISON, config=config, variants=variants, margin=None)
    options = "--seeds 2 --policies random,rs2 --save 30,50"
    assert command_of(made) == f"infobatch contest mnist5k-small-cnn {options}"
