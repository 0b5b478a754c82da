"""A function that makes a configuration becomes a recipe."""

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes import base
from infobatch.lab.recipes.base import recipe


def test_name_summary_and_notes_are_those_of_the_function(monkeypatch):
    monkeypatch.setattr(base, "RECIPES", {})

    @recipe(needs_gpu=True)
    def digits_in_one_epoch():
        """A single epoch.

        It is
        soon over.
        """
        return TrainConfig(data="digits", epochs=1)

    made = base.RECIPES["digits-in-one-epoch"]
    assert (made.summary, made.notes, made.needs_gpu) == ("A single epoch.", "It is soon over.", True)
    assert made.config() == TrainConfig(data="digits", epochs=1, recipe="digits-in-one-epoch")
