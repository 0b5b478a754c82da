"""Classes of the rows of tables, most of which are of one class; they reproduce nothing."""

from __future__ import annotations

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.base import recipe


def _mlp(data: str, batch_size: int, epochs: int, lr: float) -> TrainConfig:
    """The settings that both tables share."""
    return TrainConfig(
        task="tabular",
        data=data,
        model="mlp",
        epochs=epochs,
        batch_size=batch_size,
        optimizer="adamw",
        lr=lr,
        weight_decay=0.01,
        label_smoothing=0.0,
    )


@recipe()
def flights_mlp() -> TrainConfig:
    """Cancelled flights, 2.4 % of 269,420, an MLP on embeddings, 10 epochs, batch 1024."""
    return _mlp("flights", batch_size=1024, epochs=10, lr=3e-3)


@recipe()
def shuttle_mlp() -> TrainConfig:
    """Statlog Shuttle, 43,500 rows of seven classes, an MLP, 20 epochs, batch 256."""
    return _mlp("shuttle", batch_size=256, epochs=20, lr=3e-3)
