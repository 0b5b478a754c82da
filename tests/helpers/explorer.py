"""A recorded run whose samples have losses and margins that are easy to tell apart."""

import numpy as np

from helpers.dynamics import write_epochs
from infobatch.dynamics.files import EpochRecord

NUM_SAMPLES, NUM_EPOCHS = 60, 6
HOSTILE = """</script><img src=x onerror="window.hit=1">&'"""


def record(folder, num_samples=NUM_SAMPLES, margins=True):
    """Write a run in which sample i has loss i/N and margin 1/2 - i/N, and leaves out i < epoch."""
    index = np.arange(num_samples)
    share = (index / num_samples).astype(np.float32)
    epochs = []
    for epoch in range(NUM_EPOCHS):
        trained = index[(index >= epoch) | (epoch == 0)]
        loss = share[trained] + np.float32(0.25) * (epoch % 2)
        margin = np.float32(0.5) - share[trained] if margins else None
        epochs.append(EpochRecord(epoch, num_samples, 0, trained, loss, margin))
    return write_epochs(folder / "dynamics", *epochs)


def pictures(num_samples=NUM_SAMPLES):
    """Images whose shade is their index, uint8 (N, 8, 8)."""
    shades = np.arange(num_samples, dtype=np.uint8) * 4
    return np.broadcast_to(shades[:, None, None], (num_samples, 8, 8))
