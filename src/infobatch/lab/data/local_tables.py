"""Tables in files of a local folder, or in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infobatch.lab.data.locations import find_splits
from infobatch.lab.data.schema import Schema
from infobatch.lab.data.table_columns import Columns
from infobatch.lab.data.table_files import ENDINGS, read_table
from infobatch.lab.data.tables import Table, TableData
from infobatch.lab.names import choose


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
        first = read_table(paths["train"][0], (target,))
        schema = self._schema(first, str(paths["train"][0]), target, leave_out, of_numbers)
        train = test = Columns(paths["train"], schema, first.schema)
        if paths["test"] != paths["train"]:
            test = Columns(paths["test"], schema, first.schema)
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
            files=tuple(dict.fromkeys(path.name for each in paths.values() for path in each)),
        )

    def _paths(self, data_dir: Path | None, holds_out: bool) -> dict[str, list[Path]]:
        """The files of both splits; where rows are to be held out, those trained on may be all."""
        if data_dir is not None and data_dir.is_file():
            return self._of_one_file(data_dir, holds_out)
        try:
            return find_splits(self.name, "", "", ("train", "test"), data_dir, ENDINGS)
        except FileNotFoundError as error:
            if not holds_out:
                told = f"{error}; or hold a part of the rows out, by --held-out 0.2"
                raise FileNotFoundError(told) from error
        paths = find_splits(self.name, "", "", ("train",), data_dir, ENDINGS)
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

    def _schema(
        self, table: Any, place: str, target: str, leave_out: Sequence[str], of_numbers: bool
    ) -> Schema:
        """The columns of the training files, by the table of the first, which is at ``place``."""
        there = dict.fromkeys(table.column_names)
        names = [part for each in leave_out for part in ([each] if each in there else each.split(","))]
        for name in names:
            choose(f"column of {place}", name, there)
        if target in names:
            raise ValueError(
                f"{target!r} is to be left out, and is what is predicted; name other columns"
            )
        return Schema.of(table, target, (*self.left_out, *names), place, of_numbers)


def _positive(rows: Table, class_names: Sequence[str], given: str) -> int:
    """Of two classes the one that is looked for: the one that is given, or else the rarer one."""
    if given:
        return choose("class", given, {name: number for number, name in enumerate(class_names)})
    if len(class_names) != 2:
        return 1
    counts = rows.labels.bincount(minlength=2)
    return int(counts[1] <= counts[0])
