"""The tables by name, and the small ones that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infobatch.lab.data.base import DataSource, by_name
from infobatch.lab.data.flights import Flights
from infobatch.lab.data.local_tables import TableSet
from infobatch.lab.data.schema import Schema
from infobatch.lab.data.table_files import OWN_TABLE
from infobatch.lab.data.tables import Table, TableData


@dataclass(frozen=True)
class BreastCancer:
    """569 tumors of 30 measurements, 212 of them malignant, that scikit-learn ships."""

    name: str = "breast-cancer"
    download: str = ""
    num_test: int = 169

    def __call__(self, data_dir: Path | None, **options: Any) -> TableData:
        from sklearn.datasets import load_breast_cancer

        bunch = load_breast_cancer()
        rows = Table(
            numbers=torch.from_numpy(bunch.data),
            codes=torch.zeros(len(bunch.target), 0, dtype=torch.int64),
            labels=torch.from_numpy(1 - bunch.target.astype(np.int64)),  # there 0 is malignant
        )
        schema = Schema(tuple(map(str, bunch.feature_names)), (), "diagnosis")
        return _split_for_ever(self.name, rows, self.num_test, ("benign", "malignant"), schema)


@dataclass(frozen=True)
class Diabetes:
    """442 patients of 10 measurements, and how far their diabetes went in a year: with scikit-learn."""

    name: str = "diabetes"
    download: str = ""
    num_test: int = 132

    def __call__(self, data_dir: Path | None, **options: Any) -> TableData:
        from sklearn.datasets import load_diabetes

        bunch = load_diabetes(scaled=False)
        rows = Table(
            numbers=torch.from_numpy(bunch.data),
            codes=torch.zeros(len(bunch.target), 0, dtype=torch.int64),
            labels=torch.from_numpy(bunch.target),
        )
        schema = Schema(tuple(map(str, bunch.feature_names)), (), "progression")
        return _split_for_ever(self.name, rows, self.num_test, (), schema)


def _split_for_ever(
    name: str, rows: Table, num_test: int, class_names: tuple[str, ...], schema: Schema
) -> TableData:
    """A table whose rows are parted at random, always alike."""
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(rows)))
    return TableData(
        name=name,
        train=rows.subset(order[num_test:]),
        test=rows.subset(order[:num_test]),
        class_names=class_names,
        schema=schema,
        categories=(),
    )


TABLE_SETS: dict[str, DataSource] = by_name(
    BreastCancer(),
    Flights(),
    TableSet("shuttle", "class"),
    TableSet(OWN_TABLE),
)
"""Tables of classes."""
REGRESSION_SETS: dict[str, DataSource] = by_name(Diabetes(), TableSet(OWN_TABLE))
"""Tables of numbers to predict."""
