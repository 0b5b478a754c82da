"""What all frameworks refuse of the options that they hand on to a pruner."""

import pytest

from infobatch.integrations.refusals import check_run_options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_noise": 1.1}, r"which its policy takes; give policy=NoiseBudget\(max_noise=1\.1\)"),
        ({"prune_ratio": 0.5}, r"which its policy takes; give policy=InfoBatch\(prune_ratio=0\.5\)"),
        ({"seed": 3, "polcy": 1}, "polcy=1, which is no option of a pruner; there are policy, delta,"),
        ({"dataset": range(3)}, "which is no option of a pruner; there are"),
    ],
)
def test_what_is_no_option_of_a_pruner(options, message):
    with pytest.raises(TypeError, match=f"^pruning is given .*{message}"):
        check_run_options(options, "the Trainer", "pruning", "its arguments")
