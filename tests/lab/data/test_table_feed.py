"""Rows as a network takes them, by what the training rows hold."""

import numpy as np
import pytest
import torch

from helpers.tables import flights
from infobatch.distributed import Replicas
from infobatch.lab.data import load_data
from infobatch.lab.data.table_feed import Encoder, TableFeed
from infobatch.lab.data.tables import Table

NAN = float("nan")


def table(numbers, codes):
    return Table(
        torch.tensor(numbers, dtype=torch.float64), torch.tensor(codes), torch.arange(len(codes))
    )


TRAIN = table([[1.0, NAN, 5.0], [3.0, 4.0, 5.0], [5.0, NAN, 5.0]], [[1, 0], [3, 2], [1, 2]])


def test_numbers_are_standardized_and_missing_ones_marked():
    encode = Encoder(TRAIN, (5, 3))
    numbers, _, labels = encode(TRAIN)
    width = (8 / 3) ** 0.5
    assert encode.num_numbers == 4
    assert numbers.dtype == torch.float32
    expected = [[-2 / width, 0, 0, 1], [0, 0, 0, 0], [2 / width, 0, 0, 1]]
    assert numbers.numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert labels.tolist() == [0, 1, 2]


def test_other_rows_are_encoded_by_those_that_are_trained():
    encode = Encoder(TRAIN, (5, 3))
    numbers, codes, _ = encode(table([[7.0, NAN, NAN]], [[4, 1]]))
    assert numbers.tolist() == [[pytest.approx(4 / (8 / 3) ** 0.5), 0, 0, 1]]
    assert encode.num_codes == (3, 2)
    assert codes.tolist() == [[0, 0]]
    assert encode(TRAIN)[1].tolist() == [[1, 0], [2, 1], [1, 1]]


def test_a_column_without_any_number_says_nothing():
    empty = table([[NAN], [NAN]], [[], []])
    numbers, codes, _ = Encoder(empty, ())(empty)
    assert numbers.tolist() == [[0], [0]]
    assert codes.shape == (2, 0)


def test_what_is_constant_or_empty_in_training_is_zero_in_all_rows():
    encode = Encoder(table([[1.7e9, NAN], [1.7e9, NAN]], [[], []]), ())
    numbers, _, _ = encode(table([[1.708e9, 5e4], [NAN, NAN]], [[], []]))
    assert numbers.tolist() == [[0, 0], [0, 0]]


def test_a_constant_that_some_rows_lack_says_whether_it_is_there():
    rows = table([[2.0], [NAN]], [[], []])
    assert Encoder(rows, ())(rows)[0].tolist() == [[0, 0], [0, 1]]


def test_numbers_that_differ_by_little_of_their_mean_are_standardized():
    ids = 1e12 + torch.arange(1000, dtype=torch.float64)
    rows = table(ids[:, None].tolist(), [[]] * 1000)
    numbers, _, _ = Encoder(rows, ())(rows)
    assert numbers.mean() == pytest.approx(0, abs=1e-3)
    assert numbers.std(correction=0) == pytest.approx(1, abs=1e-3)


def test_a_constant_column_becomes_zero_but_for_rounding():
    rows = table([[0.1, 1.7e9 + 0.1]] * 1001, [[]] * 1001)
    numbers, _, _ = Encoder(rows, ())(rows)
    assert numbers.abs().max() < 1e-5


def test_batches_are_the_rows_of_their_indices(tmp_path):
    data = load_data("flights", flights(tmp_path))
    feed = TableFeed(data, torch.device("cpu"))
    numbers, codes, labels = feed(feed.collate([5, 0, 150]))
    expected = feed.encoder(data.train.subset(torch.tensor([5, 0, 150])))
    assert all(map(torch.equal, (numbers, codes, labels), expected))


def test_processes_share_the_test_rows(monkeypatch):
    monkeypatch.setattr(TableFeed, "TEST_BATCH", 20)
    feed = TableFeed(load_data("breast-cancer"), torch.device("cpu"))
    batches = [batch for rank in range(3) for batch in feed.test_batches(Replicas(rank, 3))]
    assert sorted(torch.cat([rows for rows, _ in batches]).tolist()) == list(range(169))
    assert max(len(rows) for rows, _ in batches) == 20
    for rows, (_, _, labels) in batches:
        assert labels.equal(load_data("breast-cancer").test.labels[rows])
