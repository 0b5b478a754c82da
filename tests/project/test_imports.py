"""Importing the library is cheap, imports go one way, and no module is too long to be read at once."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import infobatch

ROOT = Path(infobatch.__file__).parent
HEAVY = [
    "torch._dynamo",
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
    "bokeh",
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

METHOD = [
    ["seeding", "state", "compiling", "chunks", "autograd_graph", "user_warnings", "noise"],
    ["scores"],
    ["batching", "batch_indices", "distributed", "inputs", "samples", "user_draws", "losses"],
    ["batch_norm"],
    ["policies"],
    ["selection", "schedule", "lr", "first_looks"],
    ["epoch", "report", "journal", "prediction", "plan", "resumption"],
    ["foreign_indices"],
    ["layouts"],
    ["dynamics"],
    ["course"],
    ["run"],
    ["loading"],
    ["pruner"],
    ["streams", "integrations"],
]
LAB = [
    ["names", "files", "functions", "interrupts", "devices", "random_streams", "processes"],
    ["config"],
    ["data", "models", "recipes"],
    ["tasks", "runs"],
    ["training"],
    ["comparison"],
    ["report", "explorer"],
    ["commands"],
    ["cli"],
]
"""Rooms and, where they stand alone, modules: each imports from its own line and from earlier ones."""

MOST_LINES, MEDIAN_LINES = 400, 150


def modules():
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


NAMES = dict(modules())


def imported(path, nodes=ast.walk):
    """What a module imports anywhere: at its top, inside functions and for type checkers alone."""
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in NAMES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


GRAPH = {
    name: {other for other in imported(path) if other in NAMES and other != name}
    for name, path in NAMES.items()
}


def place_of(name):
    """The line of a module in the order of the rooms; the package itself comes after its parts."""
    parts = name.split(".")[1:]
    order, above = (LAB, len(METHOD) + 1) if parts[:1] == ["lab"] else (METHOD, 0)
    parts = parts[1:] if parts[:1] == ["lab"] else parts
    if not parts:  # infobatch or infobatch.lab
        return above + len(LAB if above else METHOD) + (1 if above else 0)
    return above + 1 + next(place for place, rooms in enumerate(order) if parts[0] in rooms)


def test_the_library_loads_nothing_heavier_than_torch():
    program = f"import infobatch, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_a_module_imports_from_its_own_room_or_an_earlier_one(name):
    own = place_of(name)
    assert not [other for other in GRAPH[name] if place_of(other) > own]


def test_imports_have_no_circle():
    remaining = dict(GRAPH)
    while remaining:
        leaves = [name for name, others in remaining.items() if not others & remaining.keys()]
        assert leaves, f"a circle among {sorted(remaining)}"
        for leaf in leaves:
            del remaining[leaf]


def test_the_method_does_not_know_the_lab():
    for name, others in GRAPH.items():
        if not name.startswith("infobatch.lab"):
            assert not [other for other in others if other.startswith("infobatch.lab")], name


def test_nothing_needs_an_integration():
    """The lab's engine by the Trainer is built on one, and imported where a task asks for it."""
    plugs = ("infobatch.integrations", "infobatch.lab.training.hf_trainer")
    for name, path in NAMES.items():
        if not name.startswith(plugs):
            at_the_top = imported(path, ast.iter_child_nodes)
            assert not [other for other in at_the_top if other.startswith(plugs)], name


def test_only_named_modules_of_the_method_touch_optional_packages():
    for name, path in NAMES.items():
        if not name.startswith(("infobatch.lab", "infobatch.integrations.")):
            tops = {module.split(".")[0] for module in imported(path, ast.iter_child_nodes)}
            assert not tops & set(HEAVY), name


def test_the_command_line_alone_knows_its_packages():
    for name, path in NAMES.items():
        if not name.startswith(("infobatch.lab.cli", "infobatch.lab.commands")):
            assert not {module.split(".")[0] for module in imported(path)} & {"tyro", "rich"}, name


def test_a_module_is_read_at_once():
    lines = {name: len(path.read_text().splitlines()) for name, path in NAMES.items()}
    assert not {name: number for name, number in lines.items() if number > MOST_LINES}
    assert statistics.median(lines.values()) <= MEDIAN_LINES
