"""Every public class and function says what each of its arguments is."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import infobatch

ROOMS = [
    "infobatch",
    "infobatch.batch_norm",
    "infobatch.layouts",
    "infobatch.loading",
    "infobatch.policies",
    "infobatch.scores",
    "infobatch.streams",
]
MODULES = [
    "infobatch.distributed",
    "infobatch.losses",
    "infobatch.lr",
    "infobatch.report",
    "infobatch.schedule",
    "infobatch.seeding",
    "infobatch.selection",
]
FRAMEWORKS = {
    "infobatch.integrations.accelerate": ("accelerate", ["pruned_loader"]),
    "infobatch.integrations.lightning": ("lightning", ["PruningCallback"]),
    "infobatch.integrations.ray": ("ray.train", ["pruned_loader"]),
    "infobatch.integrations.transformers": ("transformers", ["PruningMixin", "PruningTrainer"]),
}


def public_of(module):
    return {name: getattr(module, name) for name in module.__all__}


def public():
    """Every public class and function of the method, once, by the name that it is imported by."""
    found = {}
    for name in ROOMS + MODULES:
        for each, value in public_of(importlib.import_module(name)).items():
            if inspect.isclass(value) or inspect.isfunction(value):
                found.setdefault(value, f"{name}.{each}")
    return [pytest.param(value, id=name) for value, name in found.items()]


def methods_of(kind):
    """Its public methods, and those that it has of other classes of the library."""
    return {
        name: inspect.unwrap(value.__func__ if isinstance(value, classmethod) else value)
        for each in reversed(kind.__mro__)
        if each.__module__.startswith("infobatch.")
        for name, value in vars(each).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod))
    }


def parameters_of(function):
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def documented(text):
    """The entries of the section on arguments; None if there is none."""
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", f"{text}\n", re.MULTILINE)
    return section and re.findall(r"^    \*{0,2}(\w+):", section.group(1), re.MULTILINE)


def check(text, names):
    assert text
    entries = documented(text)
    if entries is None:  # the summary names them, or tells where they are explained
        refers = re.search(r":(meth|func|class|attr|data):`", text)
        assert len(names) <= 1 or refers or all(f"``{name}``" in text for name in names)
    else:
        assert entries == names


@pytest.mark.parametrize("value", public())
def test_every_argument_of_what_is_public_is_explained(value):
    text = inspect.getdoc(value)
    if inspect.isfunction(value):
        check(text, parameters_of(value))
        return
    if "__init__" in vars(value):  # given, or made of a dataclass's fields
        catch_alls = {"others", "more_others"}  # of InfoBatch, which answers the authors' arguments
        check(text, [name for name in parameters_of(value.__init__) if name not in catch_alls])
    assert text
    for name, method in methods_of(value).items():
        inherited = inspect.getdoc(getattr(value, name))
        assert inherited, name
        check(inherited, parameters_of(method))


def in_reference():
    """What the reference shows, by the names that its pages have for it."""
    pages = (Path(__file__).parents[2] / "docs" / "reference").glob("*.md")
    return {name for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)}


def test_the_reference_shows_all_that_is_public():
    shown = in_reference()
    assert {f"{name}.{each}" for name, (_, wanted) in FRAMEWORKS.items() for each in wanted} <= shown
    rooms = [
        name.rpartition(".")[::2]
        for name in shown
        if ".integrations." not in name and ".lab." not in name
    ]
    found = [getattr(importlib.import_module(room), name) for room, name in rooms]
    assert {parameter.id for parameter in public() if parameter.values[0] not in found} == set()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_argument_of_a_plug_in_is_explained(name):
    package, wanted = FRAMEWORKS[name]
    pytest.importorskip(package)
    module = importlib.import_module(name)
    for each in wanted:
        value = getattr(module, each)
        text = inspect.getdoc(value)
        assert text
        if inspect.isfunction(value):
            check(text, parameters_of(value))


def test_the_top_level_is_the_handful_that_a_script_types():
    assert len(infobatch.__all__) < 28
    assert infobatch.__all__ == sorted(infobatch.__all__)
    assert {name for name in vars(infobatch) if name[0].isupper()} == {
        name for name in infobatch.__all__ if name[0].isupper()
    }
