"""What features are worth: classes guessed from them, by nearest neighbours or a linear classifier."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Of the votes (Wu et al., 2018; Caron et al., 2021)."""
CHUNK_NUMBERS = 1 << 26
"""Of similarities held at once: 256 MB."""
ITERATIONS = 200

Probe = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Classes, int64 (M,), of features (M, D), by others' features (N, D) and classes (N,), of so many."""


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Features with mean 0 and deviation 1 over the training images, in each of D dimensions."""
    mean, deviation = train.mean(0), train.std(0).clamp_min(1e-6)
    return (train - mean) / deviation, (test - mean) / deviation


def knn(train: Tensor, labels: Tensor, test: Tensor, num_classes: int) -> Tensor:
    """By a vote of the 20 nearest by cosine, each of weight exp(cosine / 0.07) (Wu et al., 2018)."""
    train, test = F.normalize(train), F.normalize(test)
    num_neighbours = min(NEIGHBOURS, len(train))
    guesses = []
    for part in torch.split(test, max(1, CHUNK_NUMBERS // len(train))):
        cosines, nearest = (part @ train.T).topk(num_neighbours)
        votes = torch.zeros(len(part), num_classes, device=part.device)
        votes.scatter_add_(1, labels[nearest], (cosines / TEMPERATURE).exp())
        guesses.append(votes.argmax(1))
    return torch.cat(guesses)


def linear(train: Tensor, labels: Tensor, test: Tensor, num_classes: int) -> Tensor:
    """By logistic regression with the penalty ‖w‖² / 2N, scikit-learn's default, by L-BFGS."""
    weight = torch.zeros(num_classes, train.shape[1], device=train.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=train.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def penalised() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train, weight, bias), labels)
        loss = loss + weight.square().sum() / (2 * len(train))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(penalised)  # type: ignore[no-untyped-call]
    return F.linear(test, weight.detach(), bias.detach()).argmax(1)


PROBES: dict[str, Probe] = {"knn": knn, "linear": linear}
