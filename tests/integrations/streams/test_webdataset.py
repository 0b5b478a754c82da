"""webdataset: samples of tar shards are left out before they are decoded."""

import io
from collections import Counter
from itertools import islice

import pytest
import torch

from helpers import Numbers, random_losses, record_epoch
from infobatch import DynamicPruner, InfoBatch
from infobatch.streams.filter import ENTRY, SampleIds, StreamFilter

wds = pytest.importorskip("webdataset")
Image = pytest.importorskip("PIL.Image")

pytestmark = [
    pytest.mark.integrations,
    # It leaves shards to the garbage collector to close.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SIZE, BATCH, EPOCHS = 40, 4, 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Five shards of unequal sizes, whose keys begin anew in each."""
    folder, image = tmp_path_factory.mktemp("shards"), io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "png")
    names = []
    for shard, size in enumerate([3, 12, 9, 9, 7]):
        names.append(str(folder / f"{shard}.tar"))
        with wds.TarWriter(names[-1]) as writer:
            for i in range(size):
                sample = {"__key__": f"{i:04d}", "png": image.getvalue(), "cls": shard}
                writer.write(sample)
    return names


def key(sample):
    return sample["__url__"].rsplit("/", 1)[1] + "/" + sample["__key__"]


def raw(shards, **options):
    return wds.WebDataset(shards, shardshuffle=False, **options)


def start(shards, **options):
    ids = SampleIds.of(raw(shards), key)
    pruner = DynamicPruner(ids, EPOCHS, policy=InfoBatch(0.7), delta=1)
    return pruner, StreamFilter(pruner, key, BATCH, **options)


def test_keys_that_begin_anew_in_each_shard_are_no_ids(shards):
    with pytest.raises(ValueError, match=r"28 of the stream's 40 ids have come before.*__url__"):
        SampleIds.of(raw(shards), "__key__")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_selection_is_trained_and_nothing_else_decoded(shards, workers):
    pruner, keep = start(shards)
    decoded = Counter()

    def count(name, data):
        decoded[name] += name == ".png"

    data = raw(shards).compose(keep).decode(count, "torchrgb")
    data = data.to_tuple("png", "cls", ENTRY).batched(BATCH)
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = wds.WebLoader(data, batch_size=None, **options).unbatched().batched(BATCH)
    expected = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch(0.7), delta=1)
    for epoch in pruner.epochs():
        expected.set_epoch(epoch)
        assert torch.equal(pruner.selection.weights, expected.selection.weights)
        decoded.clear()
        losses, seen, sizes = random_losses(SIZE, epoch), [], []
        for images, _, tickets in loader:
            assert images.shape == (len(tickets), 3, 4, 4)
            indices = keep.indices(tickets)
            keep.update(losses[indices], tickets)
            seen += indices.tolist()
            sizes.append(len(indices))
        assert sorted(seen) == pruner.selection.indices.tolist()
        assert set(sizes[:-1]) == {BATCH}, "batches made after the workers are of one size"
        assert pruner.current.finished
        if workers == 0:  # else counted elsewhere
            assert decoded[".png"] == len(seen)
        record_epoch(expected, losses)
    assert pruner.progress == 1
    assert pruner.report().saved > 0.1


def test_filtering_decoded_samples_would_decode_all(shards):
    pruner, keep = start(shards)
    pruner.set_epoch(0)
    record_epoch(pruner, random_losses(SIZE))
    pruner.set_epoch(1)
    decoded = Counter()

    def count(name, data):
        decoded[name] += name == ".png"

    naive = list(raw(shards).decode(count, "pil").compose(keep))
    assert decoded[".png"] == SIZE > len(naive) == pruner.selection.num_selected


@pytest.mark.parametrize("workers", [0, 1])
def test_an_endless_stream_prefetched_across_an_epochs_end(shards, workers):
    pruner, keep = start(shards)
    data = raw(shards).repeat().compose(keep).to_tuple("cls", ENTRY).batched(BATCH)
    batches = iter(wds.WebLoader(data, batch_size=None, num_workers=workers))
    losses, weights, late = random_losses(SIZE), [], 0
    for epoch in pruner.epochs():
        weights.append(pruner.selection.weights)
        for _, tickets in islice(batches, -(-pruner.current.length // BATCH)):
            indices, epochs = keep.indices(tickets), tickets // SIZE - 1
            expected = torch.stack([weights[e][i] for e, i in zip(epochs, indices, strict=True)])
            assert torch.equal(keep.weights(tickets), expected)
            keep.update(losses[indices], tickets)
            late += int((epochs < epoch).sum())
    assert workers or late == 0  # with workers, as many as they were ahead
    assert pruner.progress == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_reads_only_what_was_not_recorded(shards, workers):
    def train(pruner, keep, num_steps=None):
        data = raw(shards).compose(keep).to_tuple("cls", ENTRY).batched(BATCH)
        loader = wds.WebLoader(data, batch_size=None, num_workers=workers)
        for epoch in pruner.epochs():
            for _, tickets in loader:
                indices = keep.indices(tickets)
                keep.update(random_losses(SIZE, epoch)[indices], tickets)
                yield from ((epoch, index) for index in indices.tolist())
                num_steps = num_steps and num_steps - 1
                if num_steps == 0:
                    return

    whole, first, resumed = start(shards), start(shards), start(shards)
    expected = sorted(train(*whole))
    trained = list(train(*first, num_steps=13))
    resumed[0].load_state_dict(first[0].state_dict())
    assert resumed[0].epoch == 1
    assert sorted(trained + list(train(*resumed))) == expected
    assert torch.equal(resumed[0].scores["last_loss"], whole[0].scores["last_loss"])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_shrink(shards, workers):
    def decode(sample):
        return {"cls": int(sample["cls"]), ENTRY: sample[ENTRY]}

    ids = SampleIds.of(raw(shards), key)
    pruner = DynamicPruner(ids, EPOCHS, policy=InfoBatch(0.7), delta=1, shrink="batches")
    keep = StreamFilter(pruner, key, BATCH)
    loader = torch.utils.data.DataLoader(
        keep(raw(shards)).map(decode).batched(),
        batch_size=None,
        collate_fn=torch.utils.data.default_collate,
        num_workers=workers,
    )
    losses = random_losses(SIZE)
    for _ in pruner.epochs():
        seen, num_batches = [], 0
        for batch in loader:
            indices = keep.indices(batch[ENTRY])
            keep.update(losses[indices], batch[ENTRY])
            seen += indices.tolist()
            num_batches += 1
        assert sorted(seen) == pruner.selection.indices.tolist()
        assert abs(num_batches - SIZE // BATCH) <= workers
    assert pruner.report().saved > 0
