"""A finished run, for the commands that go on with it or show it."""

import pytest

from helpers.commands import TYPED
from helpers.explorer import record
from infobatch.lab import cli
from infobatch.lab.commands.options import on_this_machine
from infobatch.lab.config.train import of_table
from infobatch.lab.runs.folder import RunFolder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    cli.main(["train", *TYPED, "--out", str(path)])
    return path


@pytest.fixture
def of_changed_data(tmp_path):
    """A recorded run of a table that has changed since, the table, and a copy of it as it was."""
    table, before = tmp_path / "own.csv", tmp_path / "before.csv"
    table.write_text("amount,fraud\n" + "".join(f"{n},{n % 2}\n" for n in range(60)))
    folder = RunFolder(tmp_path / "run")
    folder.create(on_this_machine(of_table(table, "fraud", "")))
    record(folder.path, 48)
    before.write_bytes(table.read_bytes())
    table.write_text(table.read_text() + "60,0\n")
    return folder.path, table, before
