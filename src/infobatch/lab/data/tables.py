"""Tables: rows of numbers and categories, and what is predicted of each; from files, or built in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.lab.data import parquet
from infobatch.lab.data.base import Data
from infobatch.lab.data.schema import Schema
from infobatch.lab.data.table_files import ENDINGS, OWN_TABLE
from infobatch.lab.names import choose

UNKNOWN = 0
"""The code of a category that is missing, or that the training file does not have."""
FEWEST_IDS, LEAST_DISTINCT = 100, 0.5
"""So many values, and so many for each row, has a column of ids or names, of which none recurs enough
to be learned."""
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


@dataclass(frozen=True)
class TableSet:
    """A table in ``train*.parquet`` and ``test*.parquet``, or in ``.csv`` files, in a local folder.

    Args:
        name: The name that the set is loaded by, and that of its folder.
        target: The column of classes; empty where the user names it.
        class_names: What the classes are called, in the order of their values; empty for the values.
        left_out: Columns that are known only once the class is, and are not learned from.
    """

    name: str
    target: str = ""
    class_names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    download: str = ""

    def __call__(
        self,
        data_dir: Path | None,
        *,
        target: str = "",
        leave_out: tuple[str, ...] = (),
        positive: str = "",
        of_numbers: bool = False,
        holds_out: bool = False,
    ) -> TableData:
        paths = self._paths(data_dir, holds_out)
        target = self.target or target
        schema = self._schema(paths["train"][0], target, leave_out, of_numbers)
        train = test = _Columns(paths["train"], schema)
        if paths["test"] != paths["train"]:
            test = _Columns(paths["test"], schema)
        vocabularies = {name: train.values(name) for name in schema.categories}
        ids = tuple(name for name, values in vocabularies.items() if train.is_of_ids(values))
        if ids:
            vocabularies = {name: values for name, values in vocabularies.items() if name not in ids}
            schema = replace(schema, categories=tuple(vocabularies))
            schema.check_learns(f"{paths['train'][0]}, where {' and '.join(ids)} hardly recur,")
            train.schema = test.schema = schema
        found = train.values(target)
        if not of_numbers and train.is_of_ids(found):
            raise ValueError(
                f"{target!r} has {len(found):,} values in {train.num_rows:,} rows of "
                f"{paths['train'][0]}, which are no classes; name another column (numbers are predicted "
                "by --task regression)"
            )
        if len(found) < 2:
            kind = "numbers" if of_numbers else "classes"
            raise ValueError(
                f"{target!r} is {found[0].as_py() if len(found) else 'missing'} in all rows of "
                f"{paths['train'][0]}; there must be two {kind} or more"
            )
        classes = None if of_numbers else found
        rows = train.encoded(vocabularies, classes)
        class_names = self.class_names or tuple(str(value.as_py()) for value in classes or ())
        return TableData(
            name=self.name,
            train=rows,
            test=rows if test is train else test.encoded(vocabularies, classes),
            class_names=class_names,
            positive=_positive(rows, class_names, positive),
            schema=schema,
            categories=tuple(tuple(values.to_pylist()) for values in vocabularies.values()),
            ids=ids,
        )

    def _paths(self, data_dir: Path | None, holds_out: bool) -> dict[str, list[Path]]:
        """The files of both splits; where rows are to be held out, those trained on may be all."""
        if data_dir is not None and data_dir.is_file():
            return self._of_one_file(data_dir, holds_out)
        try:
            return parquet.find_splits(self.name, "", "", ("train", "test"), data_dir, ENDINGS)
        except FileNotFoundError as error:
            if not holds_out:
                told = f"{error}; or hold a part of the rows out, by --held-out 0.2"
                raise FileNotFoundError(told) from error
        paths = parquet.find_splits(self.name, "", "", ("train",), data_dir, ENDINGS)
        return {"train": paths["train"], "test": paths["train"]}

    def _of_one_file(self, path: Path, holds_out: bool) -> dict[str, list[Path]]:
        """The same of a table in one file."""
        if path.suffix.lower() not in ENDINGS:
            raise ValueError(f"{path} is no table; give a file that ends in {' or '.join(ENDINGS)}")
        if not holds_out:
            raise ValueError(
                f"{path} is one file, which leaves no rows to test on; hold a part of them out, by "
                "--held-out 0.2, or give a folder with train* and test* files"
            )
        return {"train": [path], "test": [path]}

    def _schema(self, path: Path, target: str, leave_out: Sequence[str], of_numbers: bool) -> Schema:
        """The columns of the training files, of which ``path`` is the first."""
        table = parquet.read(path, (target,))
        for name in leave_out:
            choose(f"column of {path}", name, dict.fromkeys(table.column_names))
        return Schema.of(table, target, (*self.left_out, *leave_out), str(path), of_numbers)


class _Columns:
    """The files of one split.

    Args:
        paths: The files.
        schema: The columns to read.
    """

    def __init__(self, paths: Sequence[Path], schema: Schema) -> None:
        self.schema = schema
        self._paths = paths
        self._tables = [parquet.read(path, schema.columns) for path in paths]

    @property
    def num_rows(self) -> int:
        """Their rows."""
        return sum(table.num_rows for table in self._tables)

    def is_of_ids(self, values: Any) -> bool:
        """Whether the values of a column are too many for categories, or for classes."""
        return len(values) > max(FEWEST_IDS, LEAST_DISTINCT * self.num_rows)

    def values(self, name: str) -> Any:
        """The values that a column has, in their order, without a missing one: an array of pyarrow."""
        import pyarrow.compute as compute

        found = compute.drop_null(compute.unique(self._column(name)))
        return found.take(compute.sort_indices(found))

    def encoded(self, vocabularies: dict[str, Any], classes: Any) -> Table:
        """The rows: the codes of categories are their places in the vocabularies, counted from 1.

        The targets are places in ``classes``; without classes they are numbers.
        """
        numbers = [self._numbers(name) for name in self.schema.numbers]
        codes = [1 + self._places(name, values) for name, values in vocabularies.items()]
        labels = self._targets() if classes is None else self._classes(classes)
        return Table(
            torch.from_numpy(_stacked(numbers, len(labels), np.float64)),
            torch.from_numpy(_stacked(codes, len(labels), np.int64)),
            torch.from_numpy(labels),
        )

    def _targets(self) -> np.ndarray:
        """The numbers to predict, float64 (N,)."""
        targets = self._numbers(self.schema.target)
        if np.isnan(targets).any():
            row = int(np.flatnonzero(np.isnan(targets))[0])
            raise ValueError(
                f"{self._place(row)} has no {self.schema.target}, which is to be predicted; leave such "
                "rows out of the file"
            )
        return targets.copy()

    def _classes(self, classes: Any) -> np.ndarray:
        """The place of each row's class among the ``classes``, int64 (N,)."""
        labels = self._places(self.schema.target, classes)
        if (labels < 0).any():
            row = int(np.flatnonzero(labels < 0)[0])
            value = self._column(self.schema.target)[row].as_py()
            if value is None:
                raise ValueError(
                    f"{self._place(row)} has no {self.schema.target}, which is to be predicted; leave "
                    "such rows out of the file"
                )
            known = ", ".join(str(each.as_py()) for each in classes[:10])
            raise ValueError(
                f"{self._place(row)} has the {self.schema.target} {value!r}; it must be one of the "
                f"training rows', which are {known}{' and others' if len(classes) > 10 else ''}"
            )
        return labels

    def _column(self, name: str) -> Any:
        """A column of all files; one that is stored by a dictionary comes as what that holds."""
        import pyarrow
        import pyarrow.types as types

        columns = [table[name] for table in self._tables]
        kind = columns[0].type.value_type if types.is_dictionary(columns[0].type) else columns[0].type
        if name == self.schema.target and not self.schema.of_numbers and types.is_floating(kind):
            kind = pyarrow.int64()
        is_time, kind = types.is_temporal(kind), _in_one_unit(kind)
        try:
            same = [each.cast(kind, safe=not is_time) for each in columns]
            return pyarrow.chunked_array([chunk for each in same for chunk in each.chunks], kind)
        except pyarrow.ArrowException as error:
            raise ValueError(
                f"column {name!r} has other types in {' and '.join(map(str, self._paths))} ({error}); "
                "write it alike"
            ) from error

    def _numbers(self, name: str) -> np.ndarray:
        """A column of numbers, float64 (N,), NaN where one is missing."""
        import pyarrow

        column = self._column(name)
        try:
            if pyarrow.types.is_boolean(column.type):
                column = column.cast(pyarrow.int8())
            is_time = pyarrow.types.is_temporal(column.type)
            column = column.cast(pyarrow.int64()) if is_time else column
            numbers: np.ndarray = column.cast(pyarrow.float64(), safe=False).to_numpy()
            numbers = numbers / 1e6 if is_time else numbers  # in seconds
        except pyarrow.ArrowException as error:
            raise ValueError(
                f"column {name!r} in {self._paths[0]} does not hold numbers, as in the training file "
                f"({error}); write it alike"
            ) from error
        if np.isinf(numbers).any():
            row = int(np.flatnonzero(np.isinf(numbers))[0])
            raise ValueError(
                f"{self._place(row)} has the {name} {numbers[row]}; numbers must be finite, or missing"
            )
        return numbers

    def _places(self, name: str, values: Any) -> np.ndarray:
        """The place in ``values`` of each value of a column, int64 (N,), -1 where it is not there."""
        import pyarrow
        import pyarrow.compute as compute

        try:
            column = self._column(name).cast(values.type)
        except pyarrow.ArrowException as error:
            raise ValueError(
                f"column {name!r} in {self._paths[0]} has other values than in the training file "
                f"({error}); write it alike"
            ) from error
        places = compute.index_in(column, value_set=values)
        found: np.ndarray = compute.fill_null(places, -1).to_numpy().astype(np.int64)
        return found

    def _place(self, row: int) -> str:
        """A row's number in its file, and the file, for errors."""
        file = 0
        while row >= self._tables[file].num_rows:
            row -= self._tables[file].num_rows
            file += 1
        return f"row {row} (from 0) of {self._paths[file]}"


def _in_one_unit(kind: Any) -> Any:
    """A type of pyarrow: dates, times of day and durations in microseconds, however a file has them."""
    import pyarrow
    import pyarrow.types as types

    if types.is_date(kind) or types.is_timestamp(kind):
        return pyarrow.timestamp("us")
    if types.is_time(kind):
        return pyarrow.time64("us")
    return pyarrow.duration("us") if types.is_duration(kind) else kind


def _positive(rows: Table, class_names: Sequence[str], given: str) -> int:
    """Of two classes the one that is looked for: the one that is given, or else the rarer one."""
    if given:
        return choose("class", given, {name: number for number, name in enumerate(class_names)})
    if len(class_names) != 2:
        return 1
    counts = rows.labels.bincount(minlength=2)
    return int(counts[1] <= counts[0])


def _stacked(columns: Sequence[np.ndarray], num_rows: int, dtype: Any) -> np.ndarray:
    """Columns (N,) side by side, (N, number of columns), though there be none."""
    return np.stack(columns, axis=1).astype(dtype) if columns else np.empty((num_rows, 0), dtype)
