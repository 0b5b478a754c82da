"""A finished run, for the commands that go on with it or show it."""

import pytest

from helpers.commands import TYPED
from infobatch.lab import cli


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    cli.main(["train", *TYPED, "--out", str(path)])
    return path
