"""Lightning: a callback that prunes a Trainer's fit, and the loader that goes with it.

The pruner is made when the fit begins, for only then are the run's length and its processes known.
"""

from infobatch.integrations.lightning.callback import PruningCallback

__all__ = ["PruningCallback"]
