"""What tasks have in common that learn from the rows of tables."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from torch import nn

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import TableData
from infobatch.lab.data.table_feed import TableFeed
from infobatch.lab.models.tables import TABLE_MODELS
from infobatch.lab.processes import replicas
from infobatch.lab.tasks.base import Inputs, Task


class OfRows(Task):
    """A network on a table's rows: numbers float32 (B, F), codes int64 (B, K), and targets (B,)."""

    data: TableData
    feed: TableFeed

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """The numbers that the network gives for each row."""

    @classmethod
    def check(cls, config: TrainConfig, data: TableData) -> None:
        num_replicas = replicas().num_replicas
        size = config.batch_size // num_replicas
        ends_in_one = replicas().share_of(len(data.train)) % size == 1
        if config.tabular.batch_norm and ends_in_one and not config.drop_last:
            raise ValueError(
                f"--batch-size is {config.batch_size}, by which the last batch of {len(data.train):,} "
                "rows has a single one, and --tabular.batch-norm needs two; give --drop-last, or "
                "another --batch-size"
            )

    def make_feed(self) -> TableFeed:
        return TableFeed(self.data, self.device)

    def make_model(self) -> nn.Module:
        encoder, config = self.feed.encoder, self.config
        make = TABLE_MODELS[config.model]
        return make(encoder.num_numbers, encoder.num_codes, self.num_outputs, config.tabular)

    def inputs(self, batch: Any, indices: np.ndarray) -> Inputs:
        return self.feed(batch)
