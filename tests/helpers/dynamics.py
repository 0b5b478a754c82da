"""Recorded epochs, written by hand."""

import numpy as np

from infobatch.dynamics.files import EpochRecord, write_epoch


def epoch_of(epoch, losses, margins=None, num_samples=5, seed=0):
    """An epoch of the samples that ``losses`` names, by index."""
    index = np.array(sorted(losses))
    columns = [
        None if values is None else np.array([values[i] for i in index.tolist()], np.float32)
        for values in (losses, margins)
    ]
    return EpochRecord(epoch, num_samples, seed, index, *columns)


def write_epochs(folder, *epochs):
    """Write epochs into a folder, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in epochs:
        write_epoch(folder, epoch, None, 1)
    return folder
