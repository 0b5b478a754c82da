"""Unbiased dynamic data pruning for PyTorch: train on fewer samples an epoch, with the same gradient.

What a training script types stands here; the rest is in submodules:

- ``infobatch.policies``: all policies, those of the literature too, and the contract for one's own.
- ``infobatch.scores``: the score table, scores in files, and scores freed of a drawn timestep.
- ``infobatch.dynamics``: each sample's losses of every epoch, in files, and signals of the data.
- ``infobatch.layouts``: who holds the scores, where several ranks train one model.
- ``infobatch.loading``: samplers and indexed datasets, for loaders of one's own.
- ``infobatch.streams``: iterable datasets.
- ``infobatch.batch_norm``: batch norm whose statistics are weighted.
- ``infobatch.integrations``: transformers, TRL, Lightning, Accelerate, Ray and the loggers, each
  imported by name.
- ``infobatch.selection``, ``schedule``, ``lr``, ``noise``, ``report``, ``prediction`` and
  ``seeding``: the parts of a run.
- ``infobatch.lab``: experiments, comparisons and reports; behind the command ``infobatch``.
"""

from infobatch.batch_norm import batch_weights, unweigh_batch_norm, weigh_batch_norm
from infobatch.batching import ShrinkBatches
from infobatch.dynamics import read_dynamics
from infobatch.layouts import Replicated, Sharded
from infobatch.loading import IndexedCollate, IndexedDataset
from infobatch.losses import (
    classification_gradient_norms,
    classification_losses,
    classification_margins,
    output_gradient_norms,
    segmentation_losses,
    sequence_losses,
    weighted_mean,
)
from infobatch.policies import InfoBatch, Neyman, NoiseBudget, NoPruning, RandomPruning, Spaced
from infobatch.prediction import predict_budgets, predict_saving
from infobatch.pruner import DynamicPruner
from infobatch.schedule import Schedule
from infobatch.scores import read_scores

__version__ = "0.1.0"

__all__ = [
    "DynamicPruner",
    "IndexedCollate",
    "IndexedDataset",
    "InfoBatch",
    "Neyman",
    "NoPruning",
    "NoiseBudget",
    "RandomPruning",
    "Replicated",
    "Schedule",
    "Sharded",
    "ShrinkBatches",
    "Spaced",
    "batch_weights",
    "classification_gradient_norms",
    "classification_losses",
    "classification_margins",
    "output_gradient_norms",
    "predict_budgets",
    "predict_saving",
    "read_dynamics",
    "read_scores",
    "segmentation_losses",
    "sequence_losses",
    "unweigh_batch_norm",
    "weigh_batch_norm",
    "weighted_mean",
]
