"""Loaders that the frameworks keep end without a wait."""

import pytest


@pytest.fixture(autouse=True)
def prompt_workers(monkeypatch):
    """Queues of a loader in a reference cycle go with it, so that its processes are waited for."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)
