"""Which columns of a table are learned from, by their types, and which is to be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PANDAS_INDEX = "__index_level_"
"""What the name of a column begins with that pandas keeps its rows' names in."""


@dataclass(frozen=True)
class Schema:
    """Which columns of a table are learned from, and which is to be predicted.

    Args:
        numbers: The columns of numbers; truth values are numbers, too, and so are dates and times.
        categories: The columns of text.
        target: The column of classes, or of numbers.
        of_numbers: Whether the target is a number, not a class.
    """

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    target: str
    of_numbers: bool = False

    @classmethod
    def of(
        cls, table: Any, target: str, left_out: Sequence[str], place: str, of_numbers: bool = False
    ) -> Schema:
        """Sort a table's columns by their types.

        Args:
            table: A table of pyarrow.
            target: The column to predict.
            left_out: Columns that are not learned from.
            place: The table's name, for errors.
            of_numbers: Whether the target is a number, not a class.

        Returns:
            The schema, columns in the table's order.

        Raises:
            ValueError: If a column has another type, or none is left.
        """
        import pyarrow.types as types

        numbers, categories = [], []
        for column in table.schema:
            kind = held_by(column.type)
            if column.name == target:
                is_class = is_text(kind) or types.is_integer(kind) or types.is_boolean(kind)
                is_class = is_class or _is_whole(table[target])
                if of_numbers and (types.is_boolean(kind) or not _is_number(kind)):
                    raise ValueError(
                        f"the target {target!r} in {place} has type {kind}, which is no number; classes "
                        "are predicted by --task tabular"
                    )
                if not of_numbers and not is_class:
                    raise ValueError(
                        f"the target {target!r} in {place} has type {kind}; classes must be text, whole "
                        "numbers or truth values (numbers are predicted by --task regression)"
                    )
            elif column.name in left_out or _is_index(column.name):
                continue
            elif _is_number(kind) or types.is_temporal(kind) or types.is_null(kind):
                numbers.append(column.name)
            elif is_text(kind):
                categories.append(column.name)
            else:
                raise ValueError(
                    f"column {column.name!r} in {place} has type {kind}; write it as numbers or as "
                    "text, or leave it out: of the file, or of your own table by --tabular.leave-out"
                )
        schema = cls(tuple(numbers), tuple(categories), target, of_numbers)
        schema.check_learns(place)
        return schema

    def check_learns(self, place: str) -> None:
        """Raise ``ValueError`` if there is no column to learn from in the table ``place``."""
        if not self.numbers and not self.categories:
            raise ValueError(f"{place} has no column to learn {self.target!r} from; add some")

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.numbers, *self.categories, self.target)


def is_text(kind: Any) -> bool:
    """Whether a type of pyarrow is text."""
    import pyarrow.types as types

    kind = held_by(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind))


def held_by(kind: Any) -> Any:
    """A type of pyarrow or, of values stored by a dictionary, the type that the dictionary holds."""
    import pyarrow.types as types

    return kind.value_type if types.is_dictionary(kind) else kind


def _is_index(name: str) -> bool:
    """Whether pandas keeps its rows' names in a column: in a ``.csv`` file it has none itself."""
    return not name or name.startswith(PANDAS_INDEX)


def _is_number(kind: Any) -> bool:
    """Whether a type of pyarrow is a number, or a truth value."""
    import pyarrow.types as types

    is_of = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    return any(each(kind) for each in is_of)


def _is_whole(column: Any) -> bool:
    """Whether a column has whole numbers as floats, as pandas writes them where one is missing."""
    import pyarrow
    import pyarrow.compute as compute

    if not pyarrow.types.is_floating(column.type):
        return False
    values = column.cast(pyarrow.float64())
    is_whole = compute.and_(compute.equal(values, compute.floor(values)), compute.is_finite(values))
    is_whole = compute.or_(is_whole, compute.is_nan(values))  # a missing one
    return bool(compute.all(is_whole).as_py())
