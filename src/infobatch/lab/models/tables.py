"""Networks for the rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from infobatch.lab.config.task_options import TabularOptions
from infobatch.lab.data.tables import UNKNOWN
from infobatch.lab.names import choose

WIDEST_EMBEDDING = 50
EMBEDDING_STD = 0.01
"""The deviation of new embeddings, which is fastai's.

With PyTorch's, 1, what is learned of categories stays buried in noise: on a held-out part of the flights
the log loss is 0.0855, with this one 0.0806.
"""


class TableMLP(nn.Module):
    """A multilayer perceptron on numbers and on embeddings of categories.

    A category that training has not seen adds nothing: the embedding of ``UNKNOWN`` is 0 until rows
    without a category train it.

    Args:
        num_numbers: F, the columns of numbers.
        num_codes: How many codes each of the K columns of categories has.
        num_classes: The number of logits, C.
        options: Number and width of the hidden layers, and whether batch norm follows them.
    """

    def __init__(
        self, num_numbers: int, num_codes: Sequence[int], num_classes: int, options: TabularOptions
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(_embedding(num) for num in num_codes)
        width = num_numbers + sum(embedding_width(num) for num in num_codes)
        layers: list[nn.Module] = []
        for _ in range(options.layers):
            layers.append(nn.Linear(width, options.width))
            if options.batch_norm:
                layers.append(nn.BatchNorm1d(options.width))
            layers.append(nn.ReLU(inplace=True))
            width = options.width
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_classes))

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Compute logits.

        Args:
            numbers: float32 (B, F).
            codes: int64 (B, K).

        Returns:
            Logits (B, C).
        """
        embedded = [each(codes[:, column]) for column, each in enumerate(self.embeddings)]
        logits: Tensor = self.layers(torch.cat([numbers, *embedded], dim=1))
        return logits


def embedding_width(num_codes: int) -> int:
    """The width of the embedding of so many codes: half of them, at most ``WIDEST_EMBEDDING``."""
    return min(WIDEST_EMBEDDING, (num_codes + 1) // 2)


def _embedding(num_codes: int) -> nn.Embedding:
    embedding = nn.Embedding(num_codes, embedding_width(num_codes))
    with torch.no_grad():
        embedding.weight.normal_(std=EMBEDDING_STD)
        embedding.weight[UNKNOWN] = 0
    return embedding


TABLE_MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": TableMLP}
"""The networks by name, made from the arguments of :class:`TableMLP`."""


def check_table_model(name: str) -> None:
    """Refuse a model that cannot be made.

    Args:
        name: One of :data:`TABLE_MODELS`.

    Raises:
        ValueError: If there is no such model.
    """
    choose("model", name, TABLE_MODELS)
