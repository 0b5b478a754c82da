"""Tables: rows of numbers and categories, and what is predicted of each; from files, or built in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infobatch.lab.data.base import Data
from infobatch.lab.data.locations import some
from infobatch.lab.data.schema import Schema
from infobatch.lab.data.table_files import OWN_TABLE

UNKNOWN = 0
"""The code of a category that is missing, or that the training file does not have."""
ROUNDING = 1e-14
"""A constant column of float64 has at most so much of its mean as deviation."""
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

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each column of numbers, float64 (F,).

        The deviation of a constant is 0; without a number both are.
        """
        mean = self.numbers.nanmean(0).nan_to_num()
        std = (self.numbers - mean).square().nanmean(0).nan_to_num().sqrt()
        return mean, std.where(std > ROUNDING * mean.abs(), 0.0)

    @property
    def incomplete(self) -> Tensor:
        """Which columns of numbers lack some, but not all, bool (F,)."""
        missing = self.numbers.isnan()
        return missing.any(0) & ~missing.all(0)

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
        files: The names of the files that the rows were read from.
    """

    train: Table
    test: Table
    schema: Schema
    categories: tuple[tuple[str, ...], ...]
    positive: int = 1
    ids: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def num_codes(self) -> tuple[int, ...]:
        """How many codes each column of categories has, ``UNKNOWN`` among them."""
        return tuple(len(names) + 1 for names in self.categories)

    @property
    def train_labels(self) -> Tensor | None:
        return self.train.labels if self.class_names else None

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._files_told, *self._columns_told, *self._classes_told, *self._positive_told)

    @property
    def _files_told(self) -> tuple[str, ...]:
        """How many rows a table of the user's own has, and in which files."""
        if self.name != OWN_TABLE or len(self.files) < 2:
            return ()
        return (
            f"{len(self.train):,} rows to train on, and {len(self.test):,} to test on, of "
            f"{some(self.files, 'file')}",
        )

    @property
    def _columns_told(self) -> tuple[str, ...]:
        """What is learned from, of a table of the user's own."""
        if self.name != OWN_TABLE:
            return ()
        silent = self._silent
        numbers = [name for name in self.schema.numbers if name not in silent]
        kinds = {"numbers": numbers, "categories": self.schema.categories}
        told = [f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names]
        notes = [f"{self.schema.target} is learned from {' and '.join(told) or 'no column'}"]
        if self.ids:
            notes.append(
                f"not from {', '.join(self.ids)}, whose text is another in most rows, as of ids or "
                "names (a date is known by the form 2026-01-31, a number by having no unit)"
            )
        if silent:
            notes.append(
                f"nothing is learned from {', '.join(silent)}: no two of the rows that are trained on "
                "differ there"
            )
        if self._unknown:
            notes.append(
                f"most test rows have a value in {', '.join(self._unknown)} that no row trained on has, "
                "or none: see that all files write it alike"
            )
        return tuple(notes)

    @property
    def _silent(self) -> tuple[str, ...]:
        """The columns of numbers that are constant or empty in the rows that are trained on."""
        says = (self.train.moments[1] > 0) | self.train.incomplete
        names = zip(self.schema.numbers, says.tolist(), strict=True)
        return tuple(name for name, says_something in names if not says_something)

    @property
    def _unknown(self) -> tuple[str, ...]:
        """Columns of categories that say nothing in most test rows, for training knows no such value."""
        found = []
        for place, name in enumerate(self.schema.categories):
            trained, tested = self.train.codes[:, place], self.test.codes[:, place]
            is_missing = trained == UNKNOWN
            is_unknown = ~torch.isin(tested, trained[~is_missing])
            if is_missing.double().mean() <= 0.5 < is_unknown.double().mean():
                found.append(name)
        return tuple(found)

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
