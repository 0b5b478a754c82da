"""Every test starts from the same random states, so that a failure can be seen again."""

import gc
import random
import sys

import numpy as np
import pytest
import torch


def pytest_collection_finish(session):
    """What is imported by now stays: to look for garbage in it takes a third of some tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fixed_seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def call(monkeypatch, capsys):
    """The command line in this process: (exit code, standard output, standard error)."""
    from infobatch.lab import cli
    from infobatch.lab.commands import console, options
    from infobatch.lab.commands.console import plain_console

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["infobatch", *map(str, arguments)])
        for module in (cli, console, options):
            monkeypatch.setattr(module, "console", plain_console(width=100))
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        return (code, *capsys.readouterr())

    return main
