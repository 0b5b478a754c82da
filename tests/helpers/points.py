"""Labelled points, and a network of two layers that classifies them."""

import torch
from torch.utils.data import TensorDataset

SIZE = 50


def points(size=SIZE):
    generator = torch.Generator().manual_seed(5)
    return TensorDataset(
        torch.randn(size, 6, generator=generator), torch.randint(3, (size,), generator=generator)
    )


def new_layers():
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
