"""Classes of the rows of tables: cross-entropy per row; log loss, or what else they are judged by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import Evaluation, Inputs
from infobatch.lab.tasks.classifier import Classifier
from infobatch.lab.tasks.metrics import ACCURACY, LOG_LOSS, TABLE_METRICS
from infobatch.lab.tasks.probabilities import calibration_error, ranking
from infobatch.lab.tasks.rows import OfRows


class Tabular(OfRows, Classifier):
    """Classification of a table's rows.

    Inputs are numbers float32 (B, F), codes of categories int64 (B, K), and labels (B,).
    """

    @property
    def num_outputs(self) -> int:
        return self.data.num_classes

    def forward(self, model: nn.Module, inputs: Inputs) -> Tensor:
        logits: Tensor = model(*inputs[:2])
        return logits.float()

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """Evaluate a model by its log loss or another metric, over all ranks together.

        Args:
            model: An average of the model's weights; by default the model itself.

        Returns:
            The evaluation.
        """
        model = (model or self.model).eval()
        shape = (len(self.data.test), self.data.num_classes)
        logits = torch.zeros(shape, dtype=torch.float64, device=self.device)
        for rows, inputs in self.feed.test_batches(replicas()):
            logits[rows] = self._forward(model, inputs).double()
        self.model.train()
        logits, labels = total(logits), self.data.test.labels  # on the host
        logarithms = logits.log_softmax(1)
        losses = -logarithms.gather(1, labels[:, None])[:, 0]
        loss = float(losses.mean())
        counts = labels.bincount(minlength=self.data.num_classes)
        details = figures_of(logarithms.exp(), labels, self.data.positive)
        metric = TABLE_METRICS[self.config.tabular.metric]
        figures = {"log loss": loss, **details, "accuracy %": 100 - details["error %"]}
        name = f"{metric.name} {metric.unit}".strip()
        if metric != LOG_LOSS:
            details["log loss"] = loss
        of_class, values = LOG_LOSS, losses
        if metric.name in (ACCURACY.name, "balanced accuracy"):
            of_class, values = ACCURACY, 100 * (logits.argmax(1) == labels).double()
        sums = torch.zeros_like(logits[0]).index_add_(0, labels, values)
        return Evaluation(
            result=figures[name],
            loss=loss,
            details={each: value for each, value in details.items() if each != name},
            per_class=(sums / counts).tolist(),
            counts=counts.tolist(),
            class_metric=of_class,
        )


def figures_of(probabilities: Tensor, labels: Tensor, positive: int = 1) -> dict[str, float]:
    """Compute what a test is told beside the log loss.

    Args:
        probabilities: Of each class, float64 (N, C).
        labels: The true classes, int64 (N,).
        positive: Of two classes the one that is looked for.

    Returns:
        By name: the error, the mean of the classes' accuracies, the calibration error and, of two
        classes that are both there, how well the one looked for is ranked first, and how much more often
        it is predicted than it is there.
    """
    counts = labels.bincount(minlength=probabilities.shape[1]).double()
    correct = (probabilities.argmax(1) == labels).double()
    by_class = torch.zeros_like(counts).index_add_(0, labels, correct)
    present = counts > 0
    figures = {
        "error %": float(100 * (1 - correct.mean())),
        "balanced accuracy %": float(100 * (by_class[present] / counts[present]).mean()),
        "calibration error %": 100 * calibration_error(probabilities, labels),
    }
    if len(counts) == 2 and present.all():
        chances, are_positive = probabilities[:, positive], labels == positive
        figures["AUC"], figures["average precision"] = ranking(chances, are_positive)
        figures["predicted − observed %"] = float(100 * (chances.mean() - are_positive.double().mean()))
    return figures
