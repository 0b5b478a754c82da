"""Unbiased dynamic data pruning for PyTorch: train on fewer samples an epoch, with the same gradient.

``DynamicPruner`` is the way in; the rest is what it is made of.
"""

from infobatch.dataset import IndexedCollate, IndexedDataset
from infobatch.export import read_scores
from infobatch.loss import (
    classification_confidences,
    classification_gradient_norms,
    classification_losses,
    segmentation_losses,
    sequence_losses,
    weighted_mean,
)
from infobatch.lr import ProgressScheduler
from infobatch.policies import (
    BLS,
    IES,
    RCAP,
    RS2,
    UCB,
    BiasedPolicy,
    ClassQuotas,
    EpsilonGreedy,
    InfoBatch,
    Kakurenbo,
    KeepProbabilities,
    Neyman,
    NoPruning,
    OrderDP,
    PercentileTiers,
    Policy,
    Proportional,
    Protected,
    RandomPruning,
    RePB,
    Request,
    SeTa,
    Spaced,
    Static,
)
from infobatch.pruner import DynamicPruner
from infobatch.saving import Report, Saving, predict_saving
from infobatch.schedule import Schedule
from infobatch.scores import ScoreTable
from infobatch.seeding import epoch_generator
from infobatch.selection import Selection, draw, select
from infobatch.sharded import Sharded
from infobatch.timesteps import TimestepScores

__version__ = "0.1.0"

__all__ = [
    "BLS",
    "IES",
    "RCAP",
    "RS2",
    "UCB",
    "BiasedPolicy",
    "ClassQuotas",
    "DynamicPruner",
    "EpsilonGreedy",
    "IndexedCollate",
    "IndexedDataset",
    "InfoBatch",
    "Kakurenbo",
    "KeepProbabilities",
    "Neyman",
    "NoPruning",
    "OrderDP",
    "PercentileTiers",
    "Policy",
    "ProgressScheduler",
    "Proportional",
    "Protected",
    "RandomPruning",
    "RePB",
    "Report",
    "Request",
    "Saving",
    "Schedule",
    "ScoreTable",
    "SeTa",
    "Selection",
    "Sharded",
    "Spaced",
    "Static",
    "TimestepScores",
    "classification_confidences",
    "classification_gradient_norms",
    "classification_losses",
    "draw",
    "epoch_generator",
    "predict_saving",
    "read_scores",
    "segmentation_losses",
    "select",
    "sequence_losses",
    "weighted_mean",
]
