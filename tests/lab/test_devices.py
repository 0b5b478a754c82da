"""Devices by their names."""

from dataclasses import replace

import pytest
import torch

from helpers.digits import QUICK
from infobatch.lab.training.validate import check_config


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_said():
    with pytest.raises(ValueError, match="finds no CUDA device"):
        check_config(replace(QUICK, device="cuda"))
