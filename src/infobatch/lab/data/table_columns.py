"""The columns of a table's files, as numbers, codes of categories and targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infobatch.lab.data.schema import Schema, held_by
from infobatch.lab.data.table_files import read_table
from infobatch.lab.data.tables import Table

FEWEST_IDS, LEAST_DISTINCT = 100, 0.5
"""So many values, and so many for each row, has a column of ids or names, of which none recurs enough
to be learned."""


class Columns:
    """The files of one split.

    Args:
        paths: The files.
        schema: The columns to read.
        like: The first training file's schema, one of pyarrow: what is text there is text in all files.
    """

    def __init__(self, paths: Sequence[Path], schema: Schema, like: Any) -> None:
        self.schema = schema
        self._paths = paths
        self._tables = [read_table(path, schema.columns, like) for path in paths]

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
        kind = held_by(columns[0].type)
        if name == self.schema.target and not self.schema.of_numbers and types.is_floating(kind):
            columns, kind = [_without_nan(each) for each in columns], pyarrow.int64()
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


def _without_nan(column: Any) -> Any:
    """A column of floats, as float64, of which those that are NaN are missing."""
    import pyarrow
    import pyarrow.compute as compute

    if not pyarrow.types.is_floating(column.type):
        return column
    values = column.cast(pyarrow.float64())
    return compute.if_else(compute.is_nan(values), None, values)


def _in_one_unit(kind: Any) -> Any:
    """A type of pyarrow: dates, times of day and durations in microseconds, however a file has them."""
    import pyarrow
    import pyarrow.types as types

    if types.is_date(kind) or types.is_timestamp(kind):
        return pyarrow.timestamp("us")
    if types.is_time(kind):
        return pyarrow.time64("us")
    return pyarrow.duration("us") if types.is_duration(kind) else kind


def _stacked(columns: Sequence[np.ndarray], num_rows: int, dtype: Any) -> np.ndarray:
    """Columns (N,) side by side, (N, number of columns), though there be none."""
    return np.stack(columns, axis=1).astype(dtype) if columns else np.empty((num_rows, 0), dtype)
