"""What training tells of the data: each sample's losses of every epoch, in files, and signals of them.

A run made with ``DynamicPruner(..., record_to="run/dynamics")`` leaves a folder with one Parquet file
for each epoch. It has a row for each sample that the epoch trained; one that was left out has none. See
:mod:`infobatch.dynamics.files` for the columns. :func:`read_dynamics` reads the folder, and
:meth:`Dynamics.signals` tells hard, forgotten and probably mislabelled samples.
"""

from infobatch.dynamics.coreset import coreset
from infobatch.dynamics.files import EpochRecord
from infobatch.dynamics.reading import Dynamics, read_dynamics
from infobatch.dynamics.recording import Recording
from infobatch.dynamics.signals import SIGNALS

__all__ = ["SIGNALS", "Dynamics", "EpochRecord", "Recording", "coreset", "read_dynamics"]
