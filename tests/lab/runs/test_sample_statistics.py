"""How often samples and classes were trained."""

from dataclasses import replace

import pytest
import torch

from helpers.digits import PROBED, trained
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.train import train


def test_a_summary_tells_how_often_samples_and_classes_were_trained(data, tmp_path):
    folder = trained(replace(PROBED, policy="ucb"), data, tmp_path / "a")
    summary = folder.summary()
    visits = folder.scores()["visits"].double()
    assert summary.visits == pytest.approx(visits.quantile(torch.tensor([0.05, 0.5, 0.95]).double()))
    labels = data.split(0, 600).train_labels
    of_classes = [float(visits[labels == c].mean() / visits.mean()) for c in range(10)]
    assert summary.class_balance == pytest.approx([min(of_classes), max(of_classes)])
    assert summary.class_balance[0] < 1 < summary.class_balance[1]


def test_selective_backprop_tells_no_noise_and_no_visits(data, tmp_path):
    """Its steps are those of the samples it chooses within a batch."""
    config = replace(PROBED, policy="none", target=None, backward_share=0.5, probe=50)
    folder = RunFolder(tmp_path)
    folder.create(config)
    summary = train(config, data, folder)
    assert not any(metrics.noise_ratio for metrics in folder.metrics())
    assert (summary.visits, summary.class_balance) == ([], [])
