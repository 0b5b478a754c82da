"""The Fréchet distance between features of images (Heusel et al., NeurIPS 2017, section 2)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infobatch.lab.processes import total


class Features:
    """A network that makes features (B, F) of uint8 images (B, 3, H, W).

    Where its forward takes ``return_features``, as the customary Inception file's does, it is True.

    Args:
        path: A TorchScript file.
        device: Where it runs.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If TorchScript cannot load it.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"--diffusion.features is {path}, which is no file; check the path")
        try:
            with warnings.catch_warnings():  # TorchScript is what such files are kept in
                warnings.filterwarnings(
                    "ignore", message=".*torch.jit.load", category=DeprecationWarning
                )
                network: Any = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ValueError(
                f"--diffusion.features is {path}, which TorchScript cannot load "
                f"({str(error).splitlines()[0]}); give a file that torch.jit.save wrote"
            ) from error
        self._network = network.eval()
        self._path = path
        names = {argument.name for argument in network.forward.schema.arguments}
        self._options = {"return_features": True} if "return_features" in names else {}

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Compute features of images.

        Args:
            pixels: uint8 (B, C, H, W), with one channel or three.

        Returns:
            float64 (B, F).
        """
        features: Tensor = self._network(pixels.expand(-1, 3, -1, -1), **self._options)
        return features.double()

    def check(self, pixels: Tensor) -> None:
        """Check that the network makes features of such images.

        Args:
            pixels: A few images, uint8 (B, C, H, W).

        Raises:
            ValueError: If it does not.
        """
        try:
            shape = tuple(self(pixels).shape)
        except (RuntimeError, torch.jit.Error) as error:
            raise ValueError(
                f"the network of --diffusion.features {self._path} fails on uint8 images of shape "
                f"{(len(pixels), 3, *pixels.shape[2:])} ({str(error).strip().splitlines()[-1]}); give "
                "another"
            ) from error
        if len(shape) != 2 or shape[0] != len(pixels):
            raise ValueError(
                f"the network of --diffusion.features {self._path} makes {shape} of {len(pixels)} "
                f"images; it must give features of shape ({len(pixels)}, F)"
            )


class Moments:
    """The mean and the covariance of features, added up batch by batch."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []

    def add(self, features: Tensor) -> None:
        """Add a batch.

        Args:
            features: float64 (B, F).
        """
        count = torch.full((1,), len(features), dtype=torch.float64, device=features.device)
        parts = [count, features.sum(0), features.T @ features]
        self._sums = [a + b for a, b in zip(self._sums, parts, strict=True)] if self._sums else parts

    def merged(self) -> tuple[Tensor, Tensor]:
        """Merge the moments of all ranks.

        Returns:
            The mean (F,) and the covariance (F, F), on the host.
        """
        count, features, products = (total(each) for each in self._sums)
        mean = features / count
        return mean, (products - count * mean.outer(mean)) / (count - 1)


def frechet_distance(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """Compute |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    Args:
        first: Mean m1 (F,) and covariance C1 (F, F).
        second: Mean m2 (F,) and covariance C2 (F, F).

    Returns:
        The distance, at least 0, and 0 if both are equal.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, section 2.
    """
    (mean, covariance), (other_mean, other_covariance) = first, second
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    spread = covariance.trace() + other_covariance.trace() - 2 * shared
    return max(0.0, float((mean - other_mean).square().sum() + spread))
