"""Instructions and their answers, in files of Alpaca's layout: parquet, JSON or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from infobatch.lab.data.base import Data
from infobatch.lab.data.parquet import places

REQUIRED = ("instruction", "output")
OPTIONAL = ("input", "task")
SUFFIXES = (".parquet", ".json", ".jsonl")
MOST_HELD_OUT = 2000
"""Of a set without a test split, or a tenth of it where that is fewer: as alpaca-lora does."""


class Row(NamedTuple):
    """An instruction, its ``input``, empty where it has none, and the answer.

    ``place``: file and row.
    """

    instruction: str
    input: str
    output: str
    task: str
    place: str


@dataclass(frozen=True)
class InstructionData(Data):
    """``train`` and ``test``: tuples of rows. Its classes are its tasks, where it tells them."""

    @property
    def train_labels(self) -> Tensor | None:
        return self.tasks_of(self.train)

    def tasks_of(self, rows: tuple[Row, ...]) -> Tensor | None:
        """The task of each row, int64 (n,)."""
        if not self.class_names:
            return None
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return torch.tensor([numbers[row.task] for row in rows])

    def of_training(self, train: Tensor, test: Tensor | None = None) -> InstructionData:
        def rows(indices: Tensor) -> tuple[Row, ...]:
            return tuple(self.train[index] for index in indices.tolist())

        return replace(self, train=rows(train), test=self.test if test is None else rows(test))


@dataclass(frozen=True)
class InstructionSet:
    """Where a set lies: in a local folder of its name, or as ``files`` in a ``repository`` on the hub.

    ``download``: what that takes. An empty repository is a set that is only ever local.
    """

    name: str
    repository: str = ""
    files: str = ""
    download: str = ""

    def __call__(self, data_dir: Path | None) -> InstructionData:
        folder = self._folder(data_dir) if data_dir or not self.repository else self._download()
        files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
        tests = [path for path in files if path.name.startswith("test")]
        trains = [path for path in files if path.name.startswith("train")]
        train = _read(trains or [path for path in files if path not in tests])
        test = _read(tests)
        tasks = tuple(sorted({row.task for row in (*train, *test)} - {""}))
        if any(row.task == "" for row in (*train, *test)):
            tasks = ()
        data = InstructionData(self.name, train, test, tasks)
        if test:
            return data
        data = replace(data, test=train)
        num_held = max(1, min(len(train) // 10, MOST_HELD_OUT))
        return data.split(num_held / len(train), 0)  # type: ignore[return-value]

    def _folder(self, data_dir: Path | None) -> Path:
        """The folder with its files."""
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
        remedy = "give --data-dir with its files"
        if self.repository:
            remedy = (
                f"download them from huggingface.co/datasets/{self.repository}, or leave --data-dir out "
                "to have that done"
            )
        raise FileNotFoundError(
            f"no parquet, JSON or JSON lines of {self.name} in {places(folders)}; {remedy}"
        )

    def _download(self) -> Path:
        from huggingface_hub import snapshot_download

        try:
            root = snapshot_download(self.repository, repo_type="dataset", allow_patterns=self.files)
        except Exception as error:
            raise ConnectionError(
                f"{self.name} could not be downloaded from huggingface.co/datasets/{self.repository} "
                f"({type(error).__name__}); check the connection, or give --data-dir with its files"
            ) from error
        return (Path(root) / self.files).parent


def _read(paths: list[Path]) -> tuple[Row, ...]:
    return tuple(row for path in paths for row in _rows(path))


def _rows(path: Path) -> Iterator[Row]:
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
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            records: list[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
        elif path.suffix == ".json":
            records = json.loads(path.read_text())
        else:
            records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (ValueError, OSError) as error:  # pyarrow's errors are of these
        raise ValueError(f"{path} cannot be read ({error}); mend it, or download it again") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{path} holds no list of objects; give one for each instruction")
    return records


INSTRUCTION_SETS = {
    each.name: each
    for each in (
        InstructionSet("bbh"),
        InstructionSet("instructions"),
        InstructionSet("alpaca", "tatsu-lab/alpaca", "data/*.parquet", "24 MB"),
        InstructionSet("alpaca-cleaned", "yahma/alpaca-cleaned", "alpaca_data_cleaned.json", "44 MB"),
    )
}
