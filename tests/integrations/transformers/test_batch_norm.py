"""Weighted batch norm within the Trainer."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("transformers")

from helpers.points import points
from helpers.trainer import SMALLER, trainer
from infobatch import NoiseBudget, unweigh_batch_norm, weigh_batch_norm
from infobatch.batch_norm.layers import WeightedBatchNorm

pytestmark = pytest.mark.integrations


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.norm, self.after = (
            torch.nn.Linear(6, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.Linear(8, 3),
        )
        self.seen = []

    def forward(self, inputs, labels=None):
        if self.training:
            batch = self.norm.__dict__.get("_batch")
            self.seen.append(None if batch is None else batch.shares.tolist())
        logits = self.after(self.norm(self.before(inputs)))
        return {"logits": logits, "loss": None if labels is None else F.cross_entropy(logits, labels)}


def rows():
    inputs, labels = points().tensors
    return [{"inputs": inputs[i], "labels": labels[i]} for i in range(len(labels))]


def collate(samples):
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def made(folder, model, pruning, **arguments):
    arguments = {"num_train_epochs": 4, "per_device_train_batch_size": 8, **arguments}
    return trainer(folder, model=model, data=rows(), collate=collate, pruning=pruning, **arguments)


def test_layers_know_the_weights_of_the_batch_that_is_in_them(tmp_path):
    model = weigh_batch_norm(Classifier())
    assert isinstance(model.norm, WeightedBatchNorm)
    ours = made(tmp_path, model, {"policy": NoiseBudget(1.5), "delta": 1})
    weights = []
    step = ours.compute_loss

    def noting(model, inputs, *args, **kwargs):
        weights.append(ours.pruner.weights(ours._indices))
        return step(model, inputs, *args, **kwargs)

    ours.compute_loss = noting
    ours.train()
    assert ours.state.global_step == 4 * 7
    assert len(model.seen) == len(weights)
    for shares, of_batch in zip(model.seen, weights, strict=True):
        assert shares == pytest.approx((of_batch / of_batch.sum()).tolist())
    assert any(len(set(of_batch.tolist())) > 1 for of_batch in weights)
    assert "_batch" not in model.norm.__dict__
    unweigh_batch_norm(model)


def test_a_model_that_is_not_converted_counts_all_alike(tmp_path):
    model = Classifier()
    made(tmp_path, model, SMALLER).train()
    assert set(model.seen) == {None}
