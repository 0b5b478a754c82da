"""Data sets by name."""

import pytest

from helpers.images import cifar10
from infobatch.lab.data import load_data


def test_unknown_set_names_near_matches():
    with pytest.raises(ValueError, match="no data set 'cifar11'; did you mean cifar10"):
        load_data("cifar11")


def test_the_data_of_a_training_function_are_no_set_to_name():
    with pytest.raises(ValueError, match=r"no data set 'xyz!'; there are: (?!.*\bown\b)"):
        load_data("xyz!")
    assert len(load_data("own").train) == 0


def test_data_dir_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("INFOBATCH_DATA_DIR", str(cifar10(tmp_path)))
    assert len(load_data("cifar10").train) == 3
