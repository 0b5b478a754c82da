"""Results as data: every run with its options, its result and what was measured of its course."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from infobatch.lab.report.results import Results, Run


def to_json(results: Results) -> str:
    """A line for each run, so that a difference between two files can be read."""
    runs = [
        {"arm": arm.arm.name, "label": arm.label, **_run(run)}
        for arm in results.arms
        for run in arm.runs.values()
    ]
    lines = ",\n".join(f"    {json.dumps(run)}" for run in runs)
    head = {"title": results.title, "commands": list(results.commands)}
    return json.dumps(head, indent=2)[:-2] + f',\n  "runs": [\n{lines}\n  ]\n}}\n'


def _run(run: Run) -> dict[str, Any]:
    summary = asdict(run.summary)
    del summary["per_class"]
    metrics = run.metrics
    course: dict[str, Sequence[float | None]] = {
        "kept": [m.num_kept for m in metrics],
        "train_loss": [round(m.train_loss, 5) for m in metrics],
        "test_loss": [_rounded(m.test_loss, 5) for m in metrics],
        "results": [_rounded(m.result, 4) for m in metrics],
        "effective_share": [_rounded(m.effective_share, 4) for m in metrics],
        "noise_ratio": [_rounded(m.noise_ratio, 4) for m in metrics],
        "bias": [_rounded(m.bias, 4) for m in metrics],
    }
    measured = {name: values for name, values in course.items() if any(v is not None for v in values)}
    return {"config": {**run.config.to_json(), "data_dir": None}, **summary, **measured}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
