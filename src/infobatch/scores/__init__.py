"""What is known of each sample: the score table, its columns, and scores in files.

A *score* is the loss a sample had when it was last trained on: a finite float32 in the loss's own
unit, usually >= 0, low for a sample the model has learned well. A sample that was never trained on
has no score, which is written NaN. A sample left out of an epoch keeps the score it had
(InfoBatch, ICLR 2024, section 2.2). NaN and infinite losses are never scores: the sample keeps its
old one and is counted.
"""

from infobatch.scores.columns import COLUMNS, Column
from infobatch.scores.files import export_table, read_scores
from infobatch.scores.table import ScoreTable
from infobatch.scores.timesteps import TimestepScores

__all__ = ["COLUMNS", "Column", "ScoreTable", "TimestepScores", "export_table", "read_scores"]
