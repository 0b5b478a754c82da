"""Importing the library is cheap, and imports go one way."""

import ast
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import infobatch

ROOT = Path(infobatch.__file__).parent
HEAVY = [
    "pyarrow",
    "matplotlib",
    "rich",
    "tyro",
    "jinja2",
    "scipy",
    "sklearn",
    "mlxtend",
    "pandas",
    "PIL",
    "safetensors",
    "huggingface_hub",
    "transformers",
    "accelerate",
    "lightning",
    "ray",
    "torchvision",
    "timm",
    "diffusers",
]


def modules():
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported_at_the_top(path, names=()):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & set(names)
            yield from modules or {node.module}
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def graph():
    names = dict(modules())
    return {
        name: {other for other in imported_at_the_top(path, names) if other in names}
        for name, path in names.items()
    }


def test_the_library_loads_nothing_heavier_than_torch():
    program = f"import infobatch, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def imported_anywhere(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_method_does_not_know_the_lab():
    for name, path in modules():
        if not name.startswith("infobatch.lab"):
            lab = [other for other in imported_anywhere(path) if other.startswith("infobatch.lab")]
            assert not lab, name


def test_nothing_needs_an_integration():
    """The lab's engine by the Trainer is built on one, and imported by name where a task asks for it."""
    plugs = ("infobatch.integrations", "infobatch.lab.training.hf_trainer")
    for name, others in graph().items():
        if not name.startswith(plugs):
            assert not [other for other in others if other.startswith(plugs)], name


def test_imports_have_no_circle():
    remaining = graph()
    while remaining:
        leaves = [name for name, others in remaining.items() if not others & remaining.keys()]
        assert leaves, f"a circle among {sorted(remaining)}"
        for leaf in leaves:
            del remaining[leaf]


def test_the_flow_of_data_is_the_flow_of_imports():
    flow = ["scores.table", "policies.base", "selection", "epoch", "loading.sampler", "pruner"]
    edges = graph()

    def reaches(start, goal, seen=frozenset()):
        return goal in edges[start] or any(
            reaches(other, goal, seen | {other}) for other in edges[start] - seen
        )

    for earlier, later in pairwise(flow):
        assert reaches(f"infobatch.{later}", f"infobatch.{earlier}")
        assert not reaches(f"infobatch.{earlier}", f"infobatch.{later}")


def test_only_named_modules_of_the_method_touch_optional_packages():
    for name, path in modules():
        if not name.startswith(("infobatch.lab", "infobatch.integrations.")):
            tops = {module.split(".")[0] for module in imported_at_the_top(path)}
            assert not tops & set(HEAVY), name
