"""The same script for each framework gives the base script's numbers."""

import importlib
from pathlib import Path

import pytest
import torch
from tiny import parameters

pytestmark = pytest.mark.integrations

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
    expected, expected_model = importlib.import_module("plain_loop").main()
    pruner, model = importlib.import_module(name).main()
    assert pruner.history == expected.history
    assert torch.equal(pruner.selection.weights, expected.selection.weights)
    assert (parameters(model) - parameters(expected_model)).abs().max() < 1e-6
    torch.testing.assert_close(pruner.scores["last_loss"], expected.scores["last_loss"])
