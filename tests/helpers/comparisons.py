"""A comparison on digits: its options and its arms; and the options of a contest."""

from infobatch.lab.comparison import variants as arms
from infobatch.lab.comparison.variants import Arm, Variant
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes import find_recipe

COMPARED = TrainConfig(data="digits", epochs=4, batch_size=128, device="cpu", policy="infobatch", seed=3)
HALF = Variant("infobatch", 0.5)
FULL = Arm(arms.FULL)
PRUNED, FEWER, FEWER_SCALED, RANDOM = (
    Arm(kind, HALF) for kind in (arms.PRUNED, arms.FEWER, arms.FEWER_SCALED, arms.RANDOM)
)
ARMS = (FULL, PRUNED, FEWER, FEWER_SCALED, RANDOM)
CONTEST = find_recipe("mnist5k-small-cnn").config()


def kept(comparison, arm, seed):
    return [m.num_kept for m in comparison.folder(arm, seed).metrics()]
