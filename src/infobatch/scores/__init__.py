"""What is known about each sample: the score table, its columns, and scores in files.

A *score* is the loss that a sample had when it was last trained on: a finite float32 in the loss's own
unit, usually >= 0, low for a sample that the model has learned well. A sample that was never trained on
has no score, which is written NaN. A sample that is left out of an epoch keeps its score
(InfoBatch, ICLR 2024, section 2.2). NaN and infinite losses never become scores: the sample keeps its
old score, and the loss is counted.
"""

from infobatch.scores.columns import COLUMNS, Column
from infobatch.scores.files import export_table, read_scores
from infobatch.scores.table import ScoreTable
from infobatch.scores.timesteps import TimestepScores

__all__ = ["COLUMNS", "Column", "ScoreTable", "TimestepScores", "export_table", "read_scores"]
