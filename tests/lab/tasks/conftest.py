"""Networks saved for TorchScript."""

import pytest
import torch


@pytest.fixture
def scripted(tmp_path):
    def save(network):
        path = tmp_path / f"{type(network).__name__}.pt"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *args, **options: None)  # TorchScript is deprecated
            torch.jit.save(torch.jit.script(network), path)
        return str(path)

    return save
