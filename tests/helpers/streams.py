"""A stream in shards, and epochs trained from it."""

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from helpers.training import by_the_paper, random_losses
from infobatch import DynamicPruner, InfoBatch
from infobatch.streams.filter import ENTRY, StreamFilter

SIZE, EPOCHS, BATCH = 60, 4, 8


class Shards(IterableDataset):
    """Samples with an id, in shards of unequal sizes that workers share out; a new order each epoch."""

    def __init__(self, ids=range(SIZE), num_shards=5, pairs=False):
        self.ids = list(ids)
        self.num_shards = num_shards
        self.pairs = pairs
        self.epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch):
        self.epoch.fill_(epoch)

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        sizes = np.arange(1, self.num_shards + 1)
        ends = (sizes.cumsum() / sizes.sum() * len(self.ids)).astype(int)[:-1]
        generator = np.random.default_rng(int(self.epoch))
        for shard in np.split(np.arange(len(self.ids)), ends)[first::step]:
            for place in generator.permutation(shard):
                sample_id = self.ids[place]
                yield (sample_id, sample_id) if self.pairs else {"id": sample_id, "raw": sample_id}


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield from Shards()


def make(ids=None, stream=None, **options):
    pruner = DynamicPruner(ids or range(SIZE), **{"num_epochs": EPOCHS, **by_the_paper(options)})
    keep = StreamFilter(pruner, "id", BATCH)
    return pruner, keep, keep(Shards() if stream is None else stream)


def train_epoch(keep, loader, losses):
    """Feed the losses of an epoch's batches through ``update``; the batches' indices."""
    batches = []
    for batch in loader:
        indices = keep.indices(batch[ENTRY])
        keep.update(losses[indices], batch[ENTRY])
        batches.append(indices.tolist())
    return batches


def run(share, wrap=lambda loader: loader, shrink="steps"):
    """A run on this rank: what it trained in each epoch, the selections, the scores, the progress."""
    pruner = DynamicPruner(range(SIZE), EPOCHS, policy=InfoBatch(0.7), delta=1, shrink=shrink)
    keep = StreamFilter(pruner, "id", BATCH)
    stream, options = keep(Shards(share)), {"num_workers": 1}
    if shrink == "steps":
        loader = DataLoader(stream, BATCH, **options)
    else:
        loader = DataLoader(stream.batched(), None, collate_fn=default_collate, **options)
    trained, selections = [], []
    for epoch in pruner.epochs():
        selections.append(pruner.selection.weights)
        trained.append(train_epoch(keep, wrap(loader), random_losses(SIZE, epoch)))
    return trained, selections, pruner.state_dict()["scores"]["columns"], pruner.progress
