"""Hugging Face's Trainer with pruning: sequence classification, causal and masked language models.

A batch carries its samples' indices to the training step, in which one loss a sequence is recorded and
weighed; an epoch has the steps its selection needs, and progress drives the learning rate. What the
Trainer does otherwise (accumulation, normalizing by the tokens of all devices, evaluation) stays.
"""

from infobatch.integrations.transformers.batches import INDICES
from infobatch.integrations.transformers.epochs import STATE_FILE
from infobatch.integrations.transformers.trainer import PruningMixin, PruningTrainer

__all__ = ["INDICES", "STATE_FILE", "PruningMixin", "PruningTrainer"]
