"""Results of runs that never took place: full data, a pruned arm and fewer epochs."""

from types import SimpleNamespace

from infobatch.lab.comparison.variants import FEWER, FULL, PRUNED, Arm, Variant
from infobatch.lab.report.arms import ArmRuns
from infobatch.lab.report.results import Results
from infobatch.lab.tasks.metrics import Metric

LOSS = Metric("denoising loss", "", higher_is_better=False, digits=4, margin=0.001)


def ran(result, cost, metrics=(), noise=None, policy="none"):
    counts = {"num_trained": cost, "num_full": 600, "num_steps": 9, "seconds": 1.0, "cost": cost}
    summary = SimpleNamespace(result=result, mean_noise=noise, **counts)
    config = SimpleNamespace(epochs=3, target=None, policy=policy, delta=None, warmup_epochs=1)
    return SimpleNamespace(summary=summary, metric=LOSS, metrics=metrics, config=config)


def compared(costs_of_fewer, metrics=()):
    variant = Variant("infobatch")
    arms = [
        ArmRuns(Arm(FULL), "full data", {s: ran(0.12, 600, metrics) for s in (0, 1)}),
        ArmRuns(Arm(PRUNED, variant), "ours", {s: ran(0.13 + s / 100, 400, metrics) for s in (0, 1)}),
        ArmRuns(
            Arm(FEWER, variant),
            "fewer epochs",
            {seed: ran(0.15, cost, metrics) for seed, cost in enumerate(costs_of_fewer)},
        ),
    ]
    return Results("UNet on digits", LOSS, arms, arms[0], LOSS.margin, [])
