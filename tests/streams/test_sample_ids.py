"""Ids of a stream's samples become indices."""

import os
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers import random_losses
from helpers.streams import BATCH, EPOCHS, SIZE, Shards, make, train_epoch
from infobatch import DynamicPruner, InfoBatch
from infobatch.streams.filter import SampleIds, StreamFilter


def test_string_ids_have_the_same_numbers_in_any_order(tmp_path):
    names = [f"shard-{i // 7}/{i}" for i in range(SIZE)]
    ids = SampleIds.of(Shards(names), "id")
    assert sorted(map(ids.number, names)) == list(range(SIZE))
    assert [SampleIds.of(reversed(names)).number(name) for name in names] == [*map(ids.number, names)]
    ids.save(tmp_path / "ids.npy")
    ids = SampleIds.load(tmp_path / "ids.npy")
    pruner, keep, stream = make(ids, Shards(names))
    for _ in pruner.epochs():
        batches = train_epoch(keep, DataLoader(stream, BATCH), random_losses(SIZE))
        assert sorted(chain(*batches)) == pruner.selection.indices.tolist()
    assert pruner.report().saved > 0


def test_the_id_may_be_anywhere_in_a_sample_and_of_any_integer():
    big = [10**15 + 7 * i for i in range(SIZE)]
    ids = SampleIds.of(Shards(map(np.int64, big), pairs=True), 0)
    for key in (0, lambda pair: torch.tensor(pair[1])):
        pruner = DynamicPruner(ids, EPOCHS, policy=InfoBatch())
        keep = StreamFilter(pruner, key, BATCH)
        seen = []
        for tickets, (first, second) in DataLoader(keep(Shards(big, pairs=True)), BATCH):
            assert keep.indices(tickets).tolist() == [ids.number(i) for i in first]
            assert torch.equal(first, second)
            seen += first.tolist()
        assert sorted(seen) == big


@pytest.mark.parametrize("name", ["ids", "ids.bin"])
def test_ids_are_read_from_the_file_that_they_were_saved_to(name, tmp_path):
    ids = SampleIds.of("abc")
    ids.save(tmp_path / name)
    assert SampleIds.load(tmp_path / name).ids.tolist() == ids.ids.tolist()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_id_may_be_the_name_of_a_file_that_is_no_utf_8():
    names = [os.fsdecode(b"caf\xe9.jpg"), "café.jpg"]
    ids = SampleIds.of(names)
    assert sorted(map(ids.number, names)) == [0, 1]


def test_ids_that_are_no_ids():
    with pytest.raises(ValueError, match=r"2 of the stream's 6 ids have come before: samples 1 and 3"):
        SampleIds.of(["a", "b", "c", "b", "d", "b"])
    with pytest.raises(ValueError, match="gives no samples"):
        SampleIds.of([])
    with pytest.raises(TypeError, match=r"id is 0.5, a float; give strings or integers"):
        SampleIds.of([0.5])
    with pytest.raises(ValueError, match=r"no entry 'key' to know it by: it is a dict of 'id', 'raw'"):
        SampleIds.of(Shards(), "key")
    with pytest.raises(ValueError, match=r"no entry 2 to know it by: it is a tuple. Give the name"):
        SampleIds.of(Shards(pairs=True), 2)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("ids", "given", "message"),
    [
        (range(SIZE), range(1, SIZE + 1), r"the id 60, none of the numbers 0..59.*SampleIds.of\(stream"),
        (range(SIZE), [-1, *range(SIZE)], r"the id -1, none of the numbers 0..59"),
        (range(SIZE), [f"{i}" for i in range(SIZE)], r"the id '\d+', none of the numbers 0..59"),
        (
            SampleIds.of(range(SIZE)),
            range(SIZE + 1),
            "the id 60, which is none of the 60 that",
        ),
    ],
    ids=["too large", "negative", "strings", "not counted"],
)
def test_unknown_ids_are_told_of(ids, given, message, workers):
    _, _, stream = make(ids, Shards(given))
    with pytest.raises(ValueError, match=message):
        list(DataLoader(stream, BATCH, num_workers=workers))
