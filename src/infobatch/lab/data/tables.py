"""Tables: rows of numbers and categories, and what is predicted of each; from files, or built in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from infobatch.lab.data.base import Data
from infobatch.lab.data.schema import Schema
from infobatch.lab.data.table_files import OWN_TABLE

UNKNOWN = 0
"""The code of a category that is missing, or that the training file does not have."""
FEW = 100
"""Fewer test rows of the class that is looked for are told of: its recall has steps of a percent."""

MANY_CLASSES = 20
"""More classes than these that are whole numbers are told of: they may be quantities."""


@dataclass(frozen=True)
class Table:
    """Rows as they were read.

    Args:
        numbers: float64 (N, F), NaN where a number is missing.
        codes: Codes of the categories, int64 (N, K), ``UNKNOWN`` where there is none.
        labels: The class of each row, int64 (N,); float64 where numbers are predicted.
    """

    numbers: Tensor
    codes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> Table:
        return Table(self.numbers[indices], self.codes[indices], self.labels[indices])


@dataclass(frozen=True)
class TableData(Data):
    """A table with its classes.

    Args:
        train: The rows to train on.
        test: The rows to test on.
        schema: What the columns are.
        categories: What the codes from 1 on stand for in each column of categories.
        positive: Of two classes the one that is looked for, by AUC and average precision.
        ids: Columns of text that are not learned from, for their values hardly recur.
    """

    train: Table
    test: Table
    schema: Schema
    categories: tuple[tuple[str, ...], ...]
    positive: int = 1
    ids: tuple[str, ...] = ()

    @property
    def num_codes(self) -> tuple[int, ...]:
        """How many codes each column of categories has, ``UNKNOWN`` among them."""
        return tuple(len(names) + 1 for names in self.categories)

    @property
    def train_labels(self) -> Tensor | None:
        return self.train.labels if self.class_names else None

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._columns_told, *self._classes_told, *self._positive_told)

    @property
    def _columns_told(self) -> tuple[str, ...]:
        """What is learned from, of a table of the user's own."""
        if self.name != OWN_TABLE:
            return ()
        kinds = {"numbers": self.schema.numbers, "categories": self.schema.categories}
        told = [f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names]
        learned = f"{self.schema.target} is learned from {' and '.join(told)}"
        if not self.ids:
            return (learned,)
        return (
            learned,
            f"not from {', '.join(self.ids)}, whose text is another in most rows, as of ids or names (a "
            "date is known by the form 2026-01-31, a number by having no unit)",
        )

    @property
    def _classes_told(self) -> tuple[str, ...]:
        """Whether many whole numbers are taken for classes, in a table of the user's own."""
        are_numbers = all(name.lstrip("-").isdecimal() for name in self.class_names)
        if self.name != OWN_TABLE or not are_numbers or self.num_classes <= MANY_CLASSES:
            return ()
        return (
            f"{self.schema.target} has {self.num_classes} values, each of which is a class; numbers are "
            "predicted by --task regression",
        )

    @property
    def _positive_told(self) -> tuple[str, ...]:
        """Which of two classes is looked for, and whether the test part has few of it."""
        if self.num_classes != 2:
            return ()
        name = self.class_names[self.positive]
        share = float((self.train.labels == self.positive).double().mean())
        told = f"AUC and average precision are of the class {name!r}, {share:.1%} of the rows"
        number = int((self.test.labels == self.positive).sum())
        if number >= FEW:
            return (told,)
        few = (
            f"the test part has {number} row{'s' * (number != 1)} of the class {name!r}: each counts "
            "for much in those metrics, and intervals over seeds do not tell how another test part "
            "would differ"
        )
        return (told, few)
