"""The same script for each framework gives the base script's numbers."""

import importlib
from functools import cache
from pathlib import Path

import pytest
import torch

from helpers import check_same_history, launch, ray_cluster
from helpers.language import parameters
from infobatch import DynamicPruner, InfoBatch

pytestmark = pytest.mark.integrations

OF_RANKS = 1e-5
"""Ranks sum in another order, whose rounding grows over the epochs: to 1.7e-6 without AVX-512."""

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(EXAMPLES)


def test_the_base_script_learns_from_less(capsys):
    plain_loop = importlib.import_module("plain_loop")
    pruner, model = plain_loop.main()
    assert plain_loop.accuracy(model, plain_loop.digits()[1]) > 0.95
    assert pruner.report().saved > 0.15
    assert "left out" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|treespec, LeafSpec)")
@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("accelerate_loop", "accelerate"),
        ("lightning_module", "lightning"),
        ("transformers_trainer", "transformers"),
    ],
)
def test_each_script_is_the_base_script(name, package):
    pytest.importorskip(package)
    compare(*importlib.import_module(name).main())


def test_a_loop_by_hand_leaves_out_what_is_hopeless(monkeypatch):
    grpo_loop = importlib.import_module("grpo_loop")
    monkeypatch.setattr(grpo_loop, "EPOCHS", 4)
    before = grpo_loop.success(grpo_loop.make_model())
    pruner, model = grpo_loop.main()
    assert grpo_loop.success(model) > before + 0.05
    assert pruner.report().saved > 0.1
    hopeless = pruner.scores["visits"][: grpo_loop.NUM_PROMPTS // 2].float().mean()
    assert hopeless < pruner.scores["visits"].float().mean()


@pytest.mark.slow
def test_rays_script_is_the_base_script():
    with ray_cluster():
        compare(*importlib.import_module("ray_train").main(), OF_RANKS)


DDP = """
    import sys, torch, torch.distributed as dist
    import ddp
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    try:
        pruner, model = ddp.main(fsdp=FSDP)
        values = [getattr(p, "full_tensor", lambda p=p: p)().detach() for p in model.parameters()]
        torch.save([pruner.state_dict(), values], f"{folder}/{rank}.pt")
        del model
        dist.barrier()
    finally:
        dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, True])
def test_two_ranks_are_the_base_script(fsdp, tmp_path, monkeypatch):
    if fsdp and not hasattr(pytest.importorskip("torch.distributed.fsdp"), "fully_shard"):
        pytest.skip("FSDP2 came with torch 2.6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plain_loop = importlib.import_module("plain_loop")
    saved = launch(DDP.replace("FSDP", str(fsdp)), 2, tmp_path, [str(EXAMPLES)])
    for state, values in saved:
        pruner = DynamicPruner(plain_loop.digits()[0], plain_loop.EPOCHS, policy=InfoBatch(0.5))
        pruner.load_state_dict(state)
        model = plain_loop.make_model()
        torch.nn.utils.vector_to_parameters(
            torch.cat([value.flatten() for value in values]), model.parameters()
        )
        compare(pruner, model, OF_RANKS)


@cache
def base():
    return importlib.import_module("plain_loop").main()


def compare(pruner, model, rounding=1e-6):
    expected, expected_model = base()
    check_same_history(pruner.history, expected.history)
    assert torch.equal(pruner.selection.weights, expected.selection.weights)
    assert (parameters(model) - parameters(expected_model)).abs().max() < rounding
    torch.testing.assert_close(pruner.scores["last_loss"], expected.scores["last_loss"])
