"""Hugging Face's Trainer with pruning: sequence classification, causal and masked language models.

A batch carries its samples' indices to ``compute_loss``, which records one loss a sequence and weighs
them; an epoch has the steps its selection needs, and progress drives the learning rate. What the
Trainer does otherwise (accumulation, normalizing by the tokens of all devices, evaluation) stays.
"""

from infobatch.integrations.transformers.batches import INDICES
from infobatch.integrations.transformers.trainer import STATE_FILE, PruningMixin, PruningTrainer

__all__ = ["INDICES", "STATE_FILE", "PruningMixin", "PruningTrainer"]
