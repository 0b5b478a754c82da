"""Batch norm whose statistics are those of the full data: each sample counts with its weight."""

from infobatch.batch_norm.graph import unweighted_batch_norms, warn_if_unweighted
from infobatch.batch_norm.layers import is_weighed, unweigh_batch_norm, weigh_batch_norm
from infobatch.batch_norm.weights import batch_weights

__all__ = [
    "batch_weights",
    "is_weighed",
    "unweigh_batch_norm",
    "unweighted_batch_norms",
    "warn_if_unweighted",
    "weigh_batch_norm",
]
