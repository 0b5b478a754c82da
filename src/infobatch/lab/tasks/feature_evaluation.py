"""What features are worth: how well images' classes are predicted from them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_NEIGHBORS = 20
TEMPERATURE = 0.07
"""The temperature of the neighbors' votes (Wu et al., CVPR 2018; Caron et al., ICCV 2021)."""
CHUNK_NUMBERS = 1 << 26
"""How many similarities are held at once: 256 MB."""
ITERATIONS = 200

Classifier = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Predicts classes: (training features (N, D), their labels (N,), features (M, D), number of classes) to
int64 (M,)."""


def standardized(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Give features mean 0 and deviation 1 over the training images, in each dimension.

    Args:
        train: Features of the training images, (N, D).
        test: Features of the test images, (M, D).

    Returns:
        Both, standardized.
    """
    mean, deviation = train.mean(0), train.std(0).clamp_min(1e-6)
    return (train - mean) / deviation, (test - mean) / deviation


def predict_by_neighbors(train: Tensor, labels: Tensor, test: Tensor, num_classes: int) -> Tensor:
    """Predict classes by a vote of the 20 nearest training images; each weighs exp(cosine / 0.07).

    Args:
        train: Features of the training images, (N, D).
        labels: Their classes, int64 (N,).
        test: Features of the test images, (M, D).
        num_classes: The number of classes.

    Returns:
        The classes predicted for the test images, int64 (M,).

    Source: Wu et al., Unsupervised Feature Learning via Instance Discrimination, CVPR 2018.
    """
    train, test = F.normalize(train), F.normalize(test)
    num_neighbors = min(NUM_NEIGHBORS, len(train))
    predicted = []
    for part in torch.split(test, max(1, CHUNK_NUMBERS // len(train))):
        cosines, nearest = (part @ train.T).topk(num_neighbors)
        votes = torch.zeros(len(part), num_classes, device=part.device)
        votes.scatter_add_(1, labels[nearest], (cosines / TEMPERATURE).exp())
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)


def predict_by_linear_probe(train: Tensor, labels: Tensor, test: Tensor, num_classes: int) -> Tensor:
    """Predict classes by a linear classifier that is trained on the features (a "linear probe").

    Logistic regression with the penalty ‖w‖² / 2N, which is scikit-learn's default, by L-BFGS.

    Args:
        train: Features of the training images, (N, D).
        labels: Their classes, int64 (N,).
        test: Features of the test images, (M, D).
        num_classes: The number of classes.

    Returns:
        The classes predicted for the test images, int64 (M,).
    """
    weight = torch.zeros(num_classes, train.shape[1], device=train.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=train.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def penalized_loss() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train, weight, bias), labels)
        loss = loss + weight.square().sum() / (2 * len(train))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(penalized_loss)  # type: ignore[no-untyped-call]
    return F.linear(test, weight.detach(), bias.detach()).argmax(1)


CLASSIFIERS: dict[str, Classifier] = {"knn": predict_by_neighbors, "linear": predict_by_linear_probe}
"""The classifiers by the name that an option gives."""
