"""Every Python block and the notebook of the docs run; every command names options that exist."""

import ast
import importlib
import io
import json
import re
import shlex
import signal
import textwrap
import warnings
from contextlib import nullcontext, redirect_stdout
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from helpers import ray_cluster
from infobatch.policies import POLICIES, WRAPPERS, Static

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def after(diff):
    """What a diff leaves."""
    return textwrap.dedent("\n".join(line[1:] for line in diff.splitlines() if line[:1] != "-"))


def programs(page):
    """The Python of a page, in its order; the README shows it as what changes in a loop."""
    return [*map(after, blocks(page, "diff"))] if page.stem == "README" else blocks(page, "python")


def commands():
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    lines += re.findall(r"^infobatch .*", "\n".join(lines), re.MULTILINE)
    return sorted({line.split("#")[0].strip() for line in lines if line.startswith("infobatch")})


def language_names():
    for package in ("transformers", "accelerate", "lightning", "ray"):
        pytest.importorskip(package)
    from helpers import language

    return {
        "language_model": language.causal_model(),
        "sentences": language.sentences(),
        "pad": language.pad,
    }


def logging_names():
    pytest.importorskip("tensorboard")
    return {"labels": torch.arange(300) % 10}


def stream_names():
    def decode(sample):
        return {**sample, "image": torch.frombuffer(sample["jpg"], dtype=torch.uint8) / 255}

    raw = [
        {"__key__": f"{i:06d}", "jpg": bytearray(range(i % 99, i % 99 + 64)), "cls": i % 10}
        for i in range(300)
    ]
    return {"raw": raw, "decode": decode}


def masked_names():
    pytest.importorskip("transformers")
    return {}


def recipe_names():
    pytest.importorskip("lightning")
    return {}


def diffusion_names():
    pytest.importorskip("diffusers")
    from infobatch.lab.models.unets import make_unet

    return {"unet": make_unet("unet-tiny", 1, 8)}


def explorer_names():
    pytest.importorskip("bokeh")
    return {}


def training_names():
    def accuracy_in_percent(model):
        return 100 * (model(torch.zeros(8, 1, 8, 8)).argmax(1) == 0).float().mean()

    def make_model():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    return {
        "make_model": make_model,
        "accuracy_in_percent": accuracy_in_percent,
        "torch": torch,
    }


def prompt_names():
    pytest.importorskip("trl")
    from helpers import language, trl

    with warnings.catch_warnings():  # TRL still calls it by its old name
        warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing.*` is deprecated")
        config = trl.config("runs/grpo", per_device_train_batch_size=32)
    return {
        "language_model": language.causal_model(),
        "prompts": trl.prompts(),
        "reward": trl.reward,
        "tokenizer": trl.tokenizer(),
        "config": config,
    }


PAGE_NAMES = {
    "diffusion": diffusion_names,
    "explorer": explorer_names,
    "logging": logging_names,
    "mae": masked_names,
    "integrations": language_names,
    "recipes": recipe_names,
    "rl": prompt_names,
    "streams": stream_names,
    "tuning": language_names,
    "your-training": training_names,
}


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page)], ids=lambda page: page.stem)
def test_python_blocks_run_in_their_order(page, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    request.addfinalizer(partial(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM)))
    names = PAGE_NAMES.get(page.stem, dict)()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    names |= {
        "train_set": TensorDataset(torch.randn(300, 1, 8, 8), torch.randint(10, (300,))),
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    with ray_cluster() if page.stem == "integrations" else nullcontext(), warnings.catch_warnings():
        # A page shows the call of scheduler.step() on its own, without the loop around it.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        warnings.filterwarnings("ignore", message="'pin_memory' argument is set as true")
        warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing.*` is deprecated")
        # Of Lightning: on loggers, and on how it uses PyTorch.
        warnings.filterwarnings("ignore", message="Starting from v1.9.0, `tensorboardX`")
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec")
        for block in programs(page):
            exec(compile(block, str(page), "exec"), names)


def test_the_notebook_runs(monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    notebook = json.loads((ROOT / "docs" / "notebooks" / "first-steps.ipynb").read_text())
    names = {}
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "its outputs are made when the pages are built"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["pruned"].report().saved > 0.1


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "diff")], ids=lambda page: page.stem
)
def test_diffs_end_in_python_that_imports_what_exists(page):
    for block in blocks(page, "diff"):
        for node in ast.walk(ast.parse(after(block))):
            if not isinstance(node, ast.ImportFrom) or not node.module.startswith("infobatch"):
                continue
            if node.module.startswith("infobatch.integrations."):
                pytest.importorskip(node.module.split(".")[2])
            for name in node.names:
                assert hasattr(importlib.import_module(node.module), name.name)


@cache
def help_of(command):
    from infobatch.lab import cli

    shown = io.StringIO()
    with redirect_stdout(shown), pytest.raises(SystemExit):
        cli.main([command, "--help-all"])
    return shown.getvalue()


@pytest.mark.parametrize("command", commands())
def test_commands_use_options_that_exist(command):
    words = shlex.split(command)
    text = help_of(words[1])
    for word in words:
        if word.startswith("--"):
            assert word in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_policy_has_a_card_and_every_card_a_policy():
    every = POLICIES | WRAPPERS
    cards = {path.stem for path in (ROOT / "docs" / "methods").glob("*.md")}
    assert cards == {"static" if kind is Static else name for name, kind in every.items()}
