"""Figures that others report."""

from infobatch.lab.recipes import RECIPES


def test_what_others_report_belongs_to_arms_that_a_sweep_has():
    arms = {"", "full", "infobatch-0.3", "infobatch-0.5", "infobatch-0.7", "percentile-tiers"}
    for recipe in RECIPES.values():
        assert {published.arm for published in recipe.published} <= arms
