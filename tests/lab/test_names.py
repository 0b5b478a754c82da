"""Choices by name, and what is said of a name that is none."""

import pytest

from infobatch.lab.names import choose

FRUIT = {"apple": 1, "grape": 2, "cherry": 3}


def test_a_name_gives_its_choice():
    assert choose("fruit", "grape", FRUIT) == 2


def test_an_unknown_name_has_near_ones_or_all():
    with pytest.raises(ValueError, match=r"^there is no fruit 'grap'; did you mean grape\?$"):
        choose("fruit", "grap", FRUIT)
    with pytest.raises(ValueError, match=r"^there is no fruit 'xyz'; there are: apple, grape, cherry$"):
        choose("fruit", "xyz", FRUIT)
