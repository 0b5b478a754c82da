"""TRL's GRPO and RLOO with pruning: prompts whose groups teach nothing are generated for less often.

A sample is a prompt. Its score is the spread of its group's rewards, as the advantages have it. Before
each epoch the policy decides by it which prompts are kept, and the advantages of those are weighted.
What TRL does otherwise (generation, rewards, its losses, evaluation) stays.
"""

from infobatch.integrations.trl.trainer import GRPOPruningMixin, PruningGRPOTrainer, PruningRLOOTrainer

__all__ = ["GRPOPruningMixin", "PruningGRPOTrainer", "PruningRLOOTrainer"]
