"""Devices by their names."""

from dataclasses import replace

import pytest
import torch

from helpers.digits import QUICK
from infobatch.lab.devices import check_device, resolve_device, resolve_precision
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.validate import check_config


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_said():
    with pytest.raises(ValueError, match="finds no CUDA device"):
        check_config(replace(QUICK, device="cuda"))


@pytest.mark.parametrize("name", ["mps", "meta", "xpu", "gpu"])
def test_only_the_cpu_and_cuda_devices_are_taken(name):
    with pytest.raises(ValueError, match=f"--device is '{name}'; it must be auto, cpu or cuda"):
        check_device(name)


def test_a_device_beyond_those_there_are_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="--device is 'cuda:7', but PyTorch finds 2 CUDA devices"):
        resolve_device("cuda:7")


def cpu_with(monkeypatch, *features):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda has=name in features: has, raising=False)


@pytest.mark.parametrize("feature", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_auto_is_bf16_where_the_cpu_computes_in_it(monkeypatch, feature):
    cpu_with(monkeypatch, feature)
    assert resolve_precision("auto", torch.device("cpu")) == "bf16"
    cpu_with(monkeypatch)
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16", "what is asked for is done"


def test_a_run_records_the_precision_that_auto_stood_for(monkeypatch, call, tmp_path):
    cpu_with(monkeypatch)
    options = ["--data", "digits", "--epochs", 1, "--policy", "none", "--device", "cpu"]
    assert call("train", *options, "--precision", "auto", "--out", tmp_path)[0] == 0
    assert RunFolder(tmp_path).config().precision == "fp32"


@pytest.mark.parametrize("features", [(), ("_is_avx512_bf16_supported",)])
def test_bf16_that_is_emulated_is_said(monkeypatch, call, tmp_path, features):
    cpu_with(monkeypatch, *features)
    options = ["--data", "digits", "--epochs", 0.2, "--policy", "none", "--device", "cpu"]
    code, output, error = call("train", *options, "--precision", "bf16", "--out", tmp_path)
    assert code == 0, error
    assert ("which cpu only emulates" in " ".join(output.split())) == (not features)
