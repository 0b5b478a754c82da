"""Normalization layers by name."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["batch", "group"]

GROUPS = 8


def make_norm(norm: Norm, num_features: int) -> nn.Module:
    """Batch norm, or group norm with 8 groups, which sees one sample alone (Wu & He, 2018)."""
    return nn.BatchNorm2d(num_features) if norm == "batch" else nn.GroupNorm(GROUPS, num_features)
