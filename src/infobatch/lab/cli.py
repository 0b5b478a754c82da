"""The command line: plain functions with typed signatures; `infobatch COMMAND --help` shows them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

try:
    import rich as rich
    import tyro as tyro
except ImportError as error:
    raise SystemExit(
        f"infobatch: the command line needs {error.name}: pip install 'infobatch[lab]'"
    ) from error

from infobatch import __version__
from infobatch.lab.commands.arguments import Command, parse
from infobatch.lab.commands.console import console
from infobatch.lab.commands.show import evaluate, predict, recipes, report
from infobatch.lab.commands.train import compare, contest, sweep, train
from infobatch.lab.interrupts import let_go, words_of
from infobatch.lab.processes import joined
from infobatch.lab.training.train import OutOfMemory

COMMANDS: dict[str, Command] = {
    "compare": compare,
    "train": train,
    "recipes": recipes,
    "sweep": sweep,
    "contest": contest,
    "eval": evaluate,
    "report": report,
    "predict": predict,
}


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
    try:
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
        print(f"infobatch: {words_of(error)}", file=sys.stderr)
        let_go(error)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
