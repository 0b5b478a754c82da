"""Normalisation layers by name."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["batch", "group"]

GROUPS = 8


def make_norm(norm: Norm, num_features: int) -> nn.Module:
    """Batch norm; or group norm (Wu & He, 2018) with 8 groups, which looks at one sample alone."""
    return nn.BatchNorm2d(num_features) if norm == "batch" else nn.GroupNorm(GROUPS, num_features)
