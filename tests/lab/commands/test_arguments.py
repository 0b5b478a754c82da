"""Typed options go over those of a recipe."""

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
