"""One run by class, on an example worked out by hand."""

import math

import pytest
import torch

from infobatch.lab.data import ImageData, Images
from infobatch.lab.report.classes import class_headings, class_rows
from infobatch.lab.tasks.base import Evaluation
from infobatch.lab.tasks.metrics import ACCURACY

IMAGES = Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 0, 1]))
DATA = ImageData("four", IMAGES, IMAGES, ("cats", "dogs"), crop_padding=0, flip=False)
SCORES = {"visits": torch.tensor([2, 1, 3, 3]), "last_loss": torch.tensor([1.0, 2.0, math.nan, 4.0])}
EVALUATION = Evaluation(75.0, 0.5, per_class=[70.0, 80.0], counts=[5, 6])


def test_the_most_pruned_class_comes_first():
    """Of three epochs class 0 was trained 2 + 1 + 3 of 9 times; a sample without a score has no part."""
    cats, dogs = class_rows(DATA, SCORES, EVALUATION, num_full=12)
    assert (cats.name, cats.result, cats.num_test, cats.num_train) == ("cats", 70.0, 5, 3)
    assert cats.left_out == pytest.approx(1 / 3)
    assert cats.mean_score == pytest.approx(1.5)
    assert (dogs.name, dogs.left_out, dogs.mean_score) == ("dogs", 0, 4.0)
    assert len(cats.cells(ACCURACY)) == len(class_headings(ACCURACY))


def test_without_figures_of_classes_there_are_no_rows():
    assert class_rows(DATA, SCORES, Evaluation(75.0, 0.5), num_full=12) == []
