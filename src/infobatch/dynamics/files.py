"""The files of recorded epochs: Parquet that any reader takes, 0.9 to 1.4 bytes for each number.

======================  =======  =================================================================
column                  type     meaning
======================  =======  =================================================================
``epoch``               int32    the number of the epoch, from 0; the same in all rows of a file
``index``               int64    the sample's index in the dataset; rows are sorted by it
``loss``                float32  its loss when it was trained, or what ``scores=`` gave in its place;
                                 null if that was not finite, or the sample has none (no supervised
                                 token), or was dropped from its batch
``margin``              float32  its margin then; only where batches brought ``margins=``
``confidence``          float32  its own class's probability then; only where they brought
                                 ``confidences=``
======================  =======  =================================================================

Losses have seven significant bits, margins and confidences six: they lie within 0.8 and 1.6 % of what
was recorded. The file's key-value metadata has the version of the format, the number of samples N of the
dataset then, the run's seed, and the number of files of the epoch: with sharded scores each rank writes
its part.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.scores.files import import_parquet

VERSION = 1
"""Version of the format. A change that older code cannot read raises it."""

VALUES = ("loss", "margin", "confidence")
"""The columns of a file beside ``epoch`` and ``index``; all but the first may be missing."""

ROW_GROUP = 1 << 20
"""Rows that are written at a time, so that no copy of all of them is made."""

MANTISSA_BITS = {"loss": 6, "margin": 5, "confidence": 5}
"""Bits of a float's mantissa that are kept. More are noise of the training, which compresses badly."""

_NAME = re.compile(r"epoch-(\d{5,})(?:-rank-(\d+))?\.parquet")
_KEY = "infobatch."


@dataclass(frozen=True)
class EpochRecord:
    """What was recorded of one epoch: a row for each sample that it trained.

    Args:
        epoch: The number of the epoch, from 0.
        num_samples: N, the samples of the dataset then.
        seed: The seed of the run.
        index: The samples, in rising order, int64 (n,).
        loss: Their losses when they were trained, float32 (n,), NaN for one that has none.
        margin: Their margins then, (n,); None where batches brought none.
        confidence: Their own classes' probabilities then, (n,); None where batches brought none.
    """

    epoch: int
    num_samples: int
    seed: int
    index: IndexArray
    loss: FloatArray
    margin: FloatArray | None = None
    confidence: FloatArray | None = None

    @property
    def values(self) -> dict[str, FloatArray]:
        """What is known of the samples, by the name of its column."""
        known = {name: getattr(self, name) for name in VALUES}
        return {name: values for name, values in known.items() if values is not None}


def epoch_files(folder: Path) -> dict[int, dict[int | None, Path]]:
    """The files of the epochs in a folder, by epoch and by rank; the rank is None of a whole epoch's."""
    found: dict[int, dict[int | None, Path]] = {}
    for path in sorted(folder.glob("epoch-*.parquet")):
        if name := _NAME.fullmatch(path.name):
            rank = None if name[2] is None else int(name[2])
            found.setdefault(int(name[1]), {})[rank] = path
    return dict(sorted(found.items()))


def write_epoch(folder: Path, record: EpochRecord, rank: int | None, num_files: int) -> Path:
    """Write the file of an epoch, or a rank's part of it; it replaces an older one when it is whole.

    Args:
        folder: Where to.
        record: What is written.
        rank: The rank whose part it is; None for a whole epoch.
        num_files: How many files the epoch has.
    """
    pyarrow, parquet = import_parquet()
    values = record.values
    types = {"epoch": pyarrow.int32(), "index": pyarrow.int64()}
    types |= {name: pyarrow.float32() for name in values}
    facts = {"version": VERSION, "num_samples": record.num_samples, "seed": record.seed}
    metadata = {_KEY + name: str(fact) for name, fact in {**facts, "num_files": num_files}.items()}
    schema = pyarrow.schema(types.items(), metadata=metadata)
    whole = dict.fromkeys(("epoch", "index"), "DELTA_BINARY_PACKED")
    options = {
        "compression": "zstd",
        "compression_level": 9,
        "use_dictionary": False,
        "write_statistics": False,
        "column_encoding": {**whole, **dict.fromkeys(values, "BYTE_STREAM_SPLIT")},
    }
    part = "" if rank is None else f"-rank-{rank}"
    path = folder / f"epoch-{record.epoch:05}{part}.parquet"
    aside = folder / f".{path.name}.part"  # readers of a folder pass over such names
    with parquet.ParquetWriter(aside, schema, **options) as writer:
        for start in range(0, max(1, len(record.index)), ROW_GROUP):
            rows = slice(start, start + ROW_GROUP)
            index = record.index[rows]
            columns = [np.full(len(index), record.epoch, np.int32), index]
            arrays = [pyarrow.array(column) for column in columns]
            arrays += [_as_column(pyarrow, name, numbers[rows]) for name, numbers in values.items()]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
    os.replace(aside, path)
    return path


def seed_of(path: Path) -> int | None:
    """The seed of the run that wrote a file; None if the file does not say."""
    pyarrow, parquet = import_parquet()
    try:
        metadata = parquet.read_metadata(path).metadata or {}
        return int(metadata[f"{_KEY}seed".encode()])
    except (pyarrow.ArrowException, OSError, KeyError, ValueError):
        return None


def read_epoch(epoch: int, paths: Mapping[int | None, Path], index: int | None = None) -> EpochRecord:
    """Read the files of an epoch; with an ``index`` the row of that sample alone, if there is one.

    Raises:
        ValueError: If a file is damaged, not of this format or version, or missing.
    """
    parts = [_read_file(path, epoch, index) for path in paths.values()]
    record, num_files = parts[0]
    if len(parts) != num_files:
        raise ValueError(
            f"epoch {epoch} in {_folder_of(paths)} should have {num_files} file(s), one for each rank "
            f"that held scores, and has {len(parts)}; put those of all ranks of one run into the folder"
        )
    if num_files == 1:
        return record
    order = np.argsort(np.concatenate([part.index for part, _ in parts]))
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part, _ in parts])[order]
        for name in ("index", *record.values)
    }
    return EpochRecord(epoch, record.num_samples, record.seed, **joined)


def _read_file(path: Path, epoch: int, index: int | None) -> tuple[EpochRecord, int]:
    """What a file holds, and how many files its epoch has."""
    pyarrow, parquet = import_parquet()
    filters = None if index is None else [("index", "==", index)]
    try:
        table = parquet.ParquetDataset(path, filters=filters, partitioning=None).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as a recorded epoch ({type(error).__name__}): it is damaged, as by "
            "a copy that was cut short. Copy it again, or remove it to do without the epoch"
        ) from error
    facts = {name.decode(): fact.decode() for name, fact in (table.schema.metadata or {}).items()}
    version = facts.get(_KEY + "version")
    if version != str(VERSION):
        what = "no recorded epoch" if version is None else f"of version {version} of the format"
        raise ValueError(
            f"{path} is {what}; this infobatch reads files of version {VERSION} that it wrote itself by "
            "record_to= or --record"
        )
    names = [name for name in table.column_names if name != "epoch"]
    columns = {name: np.array(table[name].to_numpy()) for name in names}  # which may be written to
    num_samples, seed, num_files = (int(facts[_KEY + n]) for n in ("num_samples", "seed", "num_files"))
    return EpochRecord(epoch, num_samples, seed, **columns), num_files


def _as_column(pyarrow: Any, name: str, values: FloatArray) -> Any:
    """Numbers as they are stored: rounded, and null where they are not finite."""
    return pyarrow.array(rounded(values, MANTISSA_BITS[name]), mask=~np.isfinite(values))


def rounded(values: FloatArray, mantissa_bits: int) -> FloatArray:
    """Numbers (n,) rounded to the nearest with so many bits of mantissa, float32."""
    low = 23 - mantissa_bits
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    even = (bits >> np.uint32(low)) & np.uint32(1)  # of two that are equally near, the even one
    bits = (bits + np.uint32((1 << (low - 1)) - 1) + even) & ~np.uint32((1 << low) - 1)
    return bits.view(np.float32)


def _folder_of(paths: Mapping[int | None, Path]) -> Path:
    return next(iter(paths.values())).parent
