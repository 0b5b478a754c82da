"""Learning-rate schedules that follow the data, not the step count."""

from infobatch.lr.drive import place_schedules
from infobatch.lr.progress import ProgressScheduler
from infobatch.lr.rates import LRScaling
from infobatch.lr.schedules import check_own_length, ends_of, own_unit

__all__ = [
    "LRScaling",
    "ProgressScheduler",
    "check_own_length",
    "ends_of",
    "own_unit",
    "place_schedules",
]
