"""A tiny masked autoencoder, pre-trained on digits."""

from contextlib import contextmanager

import numpy as np
import pytest

from helpers.lab import changed
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.models.masked import SIZES, Size

QUICK = changed(
    TrainConfig(
        task="mae", data="digits", model="mae-test", epochs=4, batch_size=128, optimizer="adamw",
        lr=3e-3, train_samples=500, device="cpu", policy="infobatch",
    ),
    {"mae.patch": 2},
)  # fmt: skip


@contextmanager
def tiny_masked():
    """The model of ``QUICK``, among the sizes there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "mae-test", Size(4, 16, 1, 2, 16, 1, 2))
        yield


def inputs_of(task, indices):
    indices = np.array(indices)
    batch = task.feed.collate([task.feed.dataset[abs(i)] for i in indices.tolist()])
    return task.inputs(batch, indices)
