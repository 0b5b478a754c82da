"""The command line: plain functions with typed signatures; `infobatch COMMAND --help` shows them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from infobatch import __version__

try:
    from infobatch.lab.commands.arguments import Command, parse
    from infobatch.lab.commands.compare import compare
    from infobatch.lab.commands.console import console
    from infobatch.lab.commands.contest import contest
    from infobatch.lab.commands.coreset import coreset
    from infobatch.lab.commands.explore import explore
    from infobatch.lab.commands.show import evaluate, predict, recipes, report
    from infobatch.lab.commands.sweep import sweep
    from infobatch.lab.commands.train import train
    from infobatch.lab.interrupts import let_go, words_of
    from infobatch.lab.names import choose
    from infobatch.lab.processes import joined
    from infobatch.lab.training.train import OutOfMemory
except ModuleNotFoundError as error:
    raise SystemExit(
        f"infobatch: the command line needs {error.name}: pip install 'infobatch[lab]'"
    ) from error

if TYPE_CHECKING:
    from rich.console import Console

COMMANDS: dict[str, Command] = {
    "compare": compare,
    "train": train,
    "recipes": recipes,
    "sweep": sweep,
    "contest": contest,
    "eval": evaluate,
    "report": report,
    "predict": predict,
    "explore": explore,
    "coreset": coreset,
}

IMPORTED_LATE = ("matplotlib", "PIL", "safetensors", "scipy", "sklearn")
"""Packages of the laboratory that are imported when they are used, for they take their time."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command of the command line.

    Args:
        arguments: What was typed after ``infobatch``; by default the arguments of this process.

    Raises:
        SystemExit: With status 2 for bad input, which is printed in one line, and 130 if interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(f"infobatch {__version__}")
        return
    warnings.showwarning = Told(console)
    try:
        if arguments and not arguments[0].startswith("-"):
            choose("command", arguments[0], COMMANDS)
        with joined() as replicas:
            console.quiet = console.quiet or replicas.rank > 0
            parse(COMMANDS, arguments, "Unbiased dynamic data pruning: train, compare and report.")()
    except BrokenPipeError:  # whoever read it has seen enough, as in `infobatch train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # before training, or pressed twice: see infobatch.lab.interrupts
        print("infobatch: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except SystemExit as stopped:
        let_go(stopped)
        raise
    except (ValueError, OSError, ImportError, OutOfMemory) as error:
        missing = str(getattr(error, "name", None)).split(".")[0]
        needs = f"this needs {missing}: pip install 'infobatch[lab]'"
        print(f"infobatch: {needs if missing in IMPORTED_LATE else words_of(error)}", file=sys.stderr)
        let_go(error)
        raise SystemExit(2) from error


class Told:
    """Shows each warning once, as one line, from whichever check or run of a command it comes.

    Args:
        console: The command's; where it is quiet, another process tells.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: set[str] = set()

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        kind = "warning" if category is UserWarning else category.__name__
        told = f"infobatch: {kind}: {message}"
        if told not in self._lines and not self._console.quiet:
            print(told, file=file or sys.stderr)
        self._lines.add(told)


if __name__ == "__main__":
    main()
