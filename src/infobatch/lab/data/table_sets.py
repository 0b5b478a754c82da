"""The tables by name."""

from __future__ import annotations

from infobatch.lab.data.base import DataSource, by_name
from infobatch.lab.data.flights import Flights
from infobatch.lab.data.tables import OWN_TABLE, BreastCancer, TableSet

TABLE_SETS: dict[str, DataSource] = by_name(
    BreastCancer(),
    Flights(),
    TableSet("shuttle", "class"),
    TableSet(OWN_TABLE),
)
