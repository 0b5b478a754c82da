import sys

import pytest
from rich.console import Console

from infobatch.lab import cli, console, options


@pytest.fixture
def call(monkeypatch, capsys):
    """The command line in this process: (exit code, standard output, standard error)."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["infobatch", *map(str, arguments)])
        for module in (cli, console, options):
            monkeypatch.setattr(module, "console", Console(width=100))
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        return (code, *capsys.readouterr())

    return main
