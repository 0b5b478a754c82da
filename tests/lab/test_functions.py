"""Functions of the user's, by name."""

import os
import sys

import pytest

from infobatch.lab.functions import call_with, load_function, source_of


@pytest.fixture(autouse=True)
def own_modules(monkeypatch):
    """What is imported stays in the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_is_imported_once(tmp_path):
    script = tmp_path / "once_script.py"
    script.write_text("def one():\n    return 1\n\ndef two():\n    return 2\n")
    one = load_function(f"{script}:one")
    script.write_text("def one():\n    return 3\n")
    assert load_function(f"{script}:one") is one
    assert load_function(f"{script}:two")() == 2


def test_a_module_is_found_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "found_module.py").write_text("def one():\n    return 1\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", os.getcwd())])
    monkeypatch.chdir(tmp_path)
    assert load_function("found_module:one")() == 1


def test_another_file_has_another_mark(tmp_path):
    marks = set()
    for name, value in (("mark_a", 1), ("mark_b", 2), ("mark_c", 1)):
        (tmp_path / f"{name}.py").write_text(f"def one():\n    return {value}\n")
        marks.add(source_of(f"{tmp_path}/{name}.py:one"))
    assert len(marks) == 2
    assert all(len(mark) == 12 for mark in marks)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("broken_a", "import no_such_package", "cannot be imported .No module named 'no_such_package'"),
        ("broken_d", "import no_such.inner", "'no_such'.; install or correct what it imports"),
        (
            "broken_e",
            "raise SystemExit('usage')",
            r"ends itself when it is imported \(SystemExit: usage\)",
        ),
        ("broken_b", "x = (", r"cannot be imported \(SyntaxError: .*line 1.*\); correct it"),
        ("broken_c", "\n1 / 0", r"\(ZeroDivisionError: division by zero \(line 2 of broken_c.py\)\)"),
        (
            "json",
            "def one(): ...",
            "would hide the module json, which is imported already; give the file",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(tmp_path, name, text, message):
    script = tmp_path / f"{name}.py"
    script.write_text(text)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            load_function(f"{script}:one")


def test_a_builtin_is_called_with_nothing():
    assert call_with(dict, "dict", {"train": True}) == {}
