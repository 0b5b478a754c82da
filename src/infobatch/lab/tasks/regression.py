"""Numbers of the rows of tables: squared error per row, relative to the numbers' variance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import Evaluation, Inputs, SampleOutputs
from infobatch.lab.tasks.rows import OfRows


class Regression(OfRows):
    """Prediction of a number of each of a table's rows.

    Inputs are numbers float32 (B, F), codes of categories int64 (B, K), and targets float32 (B,), which
    have mean 0 and deviation 1.
    """

    @property
    def num_outputs(self) -> int:
        return 1

    def forward(self, model: nn.Module, inputs: Inputs) -> Tensor:
        predicted: Tensor = model(*inputs[:2])
        return predicted[:, 0].float()

    def sample_outputs(self, outputs: Tensor, inputs: Inputs, signals: Sequence[str]) -> SampleOutputs:
        return SampleOutputs((outputs - inputs[-1]).square())

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """Evaluate a model by its root mean squared error, over all ranks together.

        Args:
            model: An average of the model's weights; by default the model itself.

        Returns:
            The evaluation. The result is in percent of the standard deviation of the training targets.
        """
        model = (model or self.model).eval()
        predicted = torch.zeros(len(self.data.test), dtype=torch.float64, device=self.device)
        for rows, inputs in self.feed.test_batches(replicas()):
            predicted[rows] = self._forward(model, inputs).double()
        self.model.train()
        encoder, targets = self.feed.encoder, self.data.test.labels  # on the host, as a total
        errors = total(predicted) * encoder.target_std + encoder.target_mean - targets
        mean_square = float(errors.square().mean())
        variance = float(targets.var(correction=0))
        details = {"RMSE": mean_square**0.5, "MAE": float(errors.abs().mean())}
        if variance > 0:
            details["R² %"] = 100 * (1 - mean_square / variance)
        return Evaluation(
            result=100 * mean_square**0.5 / encoder.target_std,
            loss=mean_square / encoder.target_std**2,
            details=details,
        )
