"""From an epoch's order to batches: indexed datasets, samplers, and the loaders made of them."""

from infobatch.loading.dataset import IndexedCollate, IndexedDataset, Kept
from infobatch.loading.sampler import (
    FilteredBatchSampler,
    FilteredSampler,
    PrunedBatchSampler,
    PrunedSampler,
)

__all__ = [
    "FilteredBatchSampler",
    "FilteredSampler",
    "IndexedCollate",
    "IndexedDataset",
    "Kept",
    "PrunedBatchSampler",
    "PrunedSampler",
]
