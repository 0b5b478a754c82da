"""Results as JSON: every run with its options, its result and what was measured in each epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from infobatch.lab.files import finite
from infobatch.lab.report.arms import ArmRuns, Run
from infobatch.lab.report.results import Results


def to_json(results: Results) -> str:
    """Write results as JSON.

    Args:
        results: What to write.

    Returns:
        The options that all runs share, and then one line for each run, so that two files can be
        compared line by line.
    """
    runs = [(arm, run, _options(run)) for arm in results.arms for run in arm.runs.values()]
    first = runs[0][2] if runs else {}
    shared = {k: v for k, v in first.items() if all(options[k] == v for _, _, options in runs)}

    def line(arm: ArmRuns, run: Run, options: dict[str, Any]) -> str:
        own = {k: v for k, v in options.items() if k not in shared}
        place = {"arm": arm.arm.name, "label": arm.label, "seed": run.config.seed}
        return f"    {json.dumps(finite({**place, 'config': own, **_course(run)}))}"

    lines = ",\n".join(line(*each) for each in runs)
    head = {"title": results.title, "commands": list(results.commands), "config": shared}
    return json.dumps(head, indent=2)[:-2] + f',\n  "runs": [\n{lines}\n  ]\n}}\n'


def _options(run: Run) -> dict[str, Any]:
    """A run's options, without its seed and the place of its data."""
    options = run.config.to_json()
    return {k: v for k, v in options.items() if k not in ("seed", "data_dir")}


def _course(run: Run) -> dict[str, Any]:
    """A run's summary, and lists of what was measured in each epoch."""
    summary = asdict(run.summary)
    del summary["per_class"]
    metrics = run.metrics
    course: dict[str, Sequence[float | None]] = {
        "kept": [m.num_kept for m in metrics],
        "train_loss": [_rounded(m.train_loss, 5) for m in metrics],
        "test_loss": [_rounded(m.test_loss, 5) for m in metrics],
        "results": [_rounded(m.result, 4) for m in metrics],
        "effective_share": [_rounded(m.effective_share, 4) for m in metrics],
        "noise_ratio": [_rounded(m.noise_ratio, 4) for m in metrics],
        "noise": [_rounded(m.noise, 4) for m in metrics],
        "bias": [_rounded(m.bias, 4) for m in metrics],
    }
    measured = {name: values for name, values in course.items() if any(v is not None for v in values)}
    return {**summary, **measured}


def _rounded(value: float | None, digits: int) -> float | None:
    """A value with so many digits after the point; one below 1 with as many that count."""
    if value is None:
        return None
    return float(f"{value:.{digits}g}") if abs(value) < 1 else round(value, digits)
