"""Instructions and their answers, in files of Alpaca's layout: parquet, JSON or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infobatch.lab.data.base import Data, by_name
from infobatch.lab.data.locations import download, hub_remedy, places

REQUIRED = ("instruction", "output")
OPTIONAL = ("input", "task")
SUFFIXES = (".parquet", ".json", ".jsonl")
MOST_HELD_OUT = 2000
"""How many rows test a set without a test split, or a tenth of it where that is fewer.

Source: alpaca-lora, which holds out 2,000 of Alpaca's 52,002 rows.
"""


class Row(NamedTuple):
    """An instruction and its answer.

    Args:
        instruction: What is asked for.
        input: What the instruction is about; empty where it has none.
        output: The answer.
        task: The task that the row is of; empty where the file does not say.
        place: The file and the row in it, for errors.
    """

    instruction: str
    input: str
    output: str
    task: str
    place: str


@dataclass(frozen=True)
class InstructionData(Data):
    """Tuples of rows to train and test on; the classes are the rows' tasks, where all rows have one."""

    @property
    def train_labels(self) -> Tensor | None:
        return self.tasks_of(self.train)

    def tasks_of(self, rows: tuple[Row, ...]) -> Tensor | None:
        """The number of each row's task, int64 (n,); None where the set has no tasks."""
        if not self.class_names:
            return None
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return torch.tensor([numbers[row.task] for row in rows])

    def _choose(self, indices: Tensor) -> tuple[Row, ...]:
        return tuple(self.train[index] for index in indices.tolist())


@dataclass(frozen=True)
class InstructionSet:
    """Where a set lies: in a local folder, or on the hub.

    Args:
        name: The name that the set is loaded by, and that of its folder.
        repository: Its repository on the hub; empty for a set that is only ever local.
        files: The glob pattern of its files there.
        download: The size of its download, in words.
    """

    name: str
    repository: str = ""
    files: str = ""
    download: str = ""

    def __call__(self, data_dir: Path | None) -> InstructionData:
        folder = self._folder(data_dir)
        files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
        tests = [path for path in files if path.name.startswith("test")]
        if len(tests) == len(files):
            raise ValueError(
                f"{folder} has files to test on alone; add some to train on, as train.jsonl"
            )
        trains = [path for path in files if path.name.startswith("train")]
        train = _read(trains or [path for path in files if path not in tests])
        test = _read(tests)
        tasks = tuple(sorted({row.task for row in (*train, *test)} - {""}))
        if any(row.task == "" for row in (*train, *test)):
            tasks = ()
        data = InstructionData(self.name, train, test, tasks)
        if test:
            return data
        if len(train) < 2:
            raise ValueError(
                f"{folder} has one row, and none to test on; give more rows, or a file to test on, as "
                "test.jsonl"
            )
        data = replace(data, test=train)
        num_held = max(1, min(len(train) // 10, MOST_HELD_OUT))
        data = data.split(num_held / len(train), 0)  # type: ignore[assignment]
        return replace(data, origin=None)  # what is left is the whole set, as in one with a test split

    def _folder(self, data_dir: Path | None) -> Path:
        """The folder with the set's files, downloaded where no folder is given."""
        if data_dir is None and self.repository:
            return (download(self.name, self.repository, self.files) / self.files).parent
        if data_dir is None:
            raise FileNotFoundError(
                f"{self.name} is not downloaded; give --data-dir with its train*.parquet (or .json, "
                f".jsonl) and, if there is one, test*.parquet: columns {', '.join(REQUIRED)}, and "
                f"perhaps {' and '.join(OPTIONAL)}"
            )
        folders = [data_dir / self.name, data_dir]
        for folder in folders:
            if folder.is_dir() and any(path.suffix in SUFFIXES for path in folder.iterdir()):
                return folder
        remedy = hub_remedy(self.repository) if self.repository else "give --data-dir with its files"
        raise FileNotFoundError(
            f"no parquet, JSON or JSON lines of {self.name} in {places(folders)}; {remedy}"
        )


def _read(paths: list[Path]) -> tuple[Row, ...]:
    """The rows of several files."""
    return tuple(row for path in paths for row in _rows(path))


def _rows(path: Path) -> Iterator[Row]:
    """The rows of one file, each checked to be text."""
    records = _records(path)
    if not records:
        raise ValueError(f"{path} holds no rows; download it again")
    for number, record in enumerate(records):
        values = [record.get(name) for name in (*REQUIRED, *OPTIONAL)]
        instruction, output, *others = ["" if value is None else value for value in values]
        row = Row(instruction, others[0], output, others[1], f"row {number} (from 0) of {path.name}")
        missing = [name for name in REQUIRED if name not in record]
        if missing:
            raise ValueError(
                f"{path} has columns {', '.join(record)}, but no {missing[0]!r}; name the columns "
                f"{', '.join(REQUIRED)} and, if there are any, {' and '.join(OPTIONAL)}"
            )
        for name, value in zip(Row._fields, row, strict=True):
            if not isinstance(value, str):
                raise ValueError(f"{row.place} has the {name} {value!r}; it must be text")
        yield row


def _records(path: Path) -> list[Mapping[str, Any]]:
    """What a file holds of each row, by column."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            records: list[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
        else:
            with path.open(encoding="utf-8-sig") as file:  # some programs begin files with a mark
                if path.suffix == ".json":
                    records = json.load(file)
                else:
                    records = [json.loads(line) for line in file if line.strip()]
    except (ValueError, OSError) as error:  # pyarrow's errors are of these
        raise ValueError(f"{path} cannot be read ({error}); mend it, or download it again") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{path} holds no list of objects; give one for each instruction")
    return records


INSTRUCTION_SETS = by_name(
    InstructionSet("bbh"),
    InstructionSet("instructions"),
    InstructionSet("alpaca", "tatsu-lab/alpaca", "data/*.parquet", "24 MB"),
    InstructionSet("alpaca-cleaned", "yahma/alpaca-cleaned", "alpaca_data_cleaned.json", "44 MB"),
)
