"""One run by class, on an example worked out by hand."""

import math
from dataclasses import replace

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


def test_what_was_left_out_within_batches_is_not_told_of_classes():
    rows = class_rows(DATA, SCORES, EVALUATION, num_full=None)
    headings = class_headings(ACCURACY, tells_left_out=False)
    assert "left out %" not in headings
    assert headings[0] == "class"
    assert [row.name for row in rows] == ["cats", "dogs"]
    assert [len(row.cells(ACCURACY)) for row in rows] == [len(headings)] * 2


def test_classes_without_training_samples_come_last():
    """Of 15 digits or so; a NaN among the keys of a sort leaves no order."""
    labels = torch.tensor([1, 1, 3, 4])
    images = Images(IMAGES.pixels, labels)
    data = replace(DATA, train=images, class_names=tuple("abcde"))
    scores = {**SCORES, "visits": torch.tensor([3, 2, 1, 3])}
    evaluation = Evaluation(75.0, 0.5, per_class=[70.0] * 5, counts=[5] * 5)
    rows = class_rows(data, scores, evaluation, num_full=12)
    assert [row.name for row in rows] == ["d", "b", "e", "a", "c"]
