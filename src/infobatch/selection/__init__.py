"""What an epoch trains on: a draw by keep probabilities. The only room with sampling theory.

For every sample, (probability of being selected) x (weight when selected) = 1. Hence at fixed
parameters the expected weighted sum of per-sample losses over the selection is the sum over the
whole dataset (Horvitz & Thompson, 1952; InfoBatch, ICLR 2024, eq. 7), whatever the scores were.
"""

from infobatch.selection.answers import select
from infobatch.selection.draws import draw, inclusion_probabilities
from infobatch.selection.selection import Selection

__all__ = ["Selection", "draw", "inclusion_probabilities", "select"]
