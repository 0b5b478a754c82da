"""Typed options go over those of a recipe."""

import pytest

from infobatch.lab.runs.folder import RunFolder


def test_an_unknown_option_names_a_near_one(call):
    _, _, error = call("train", "--prune-ration", "0.5")
    assert "--prune-ratio" in error


def test_a_recipe_is_trained_with_the_options_that_were_typed(call, tmp_path):
    typed = ["--data", "digits", "--epochs", "2", "--norm=group"]
    code, _, error = call("train", "mnist5k-small-cnn", *typed, "--out", tmp_path)
    assert code == 0, error
    config = RunFolder(tmp_path).config()
    assert (config.recipe, config.data, config.norm, config.epochs) == (
        "mnist5k-small-cnn",
        "digits",
        "group",
        2,
    )


def test_a_typed_default_overrides_the_recipe(call, tmp_path):
    call("train", "mnist5k-small-cnn", "--epochs", "15", "--data", "digits", "--out", tmp_path)
    assert RunFolder(tmp_path).config().epochs == 15, "15 is the default, but not the recipe's"


@pytest.mark.parametrize(
    ("option", "typed", "message"),
    [
        ("--save", "30%", "'30%' is no number, such as 30"),
        ("--noise", "None", "'None' is no number"),
        ("--seeds", "2.5", "'2.5' is no whole number"),
    ],
)
def test_what_is_no_number_is_said_in_plain_words(call, option, typed, message):
    code, _, error = call("compare", option, typed)
    assert code == 2
    assert f"Error parsing {option}: {message}" in error
