"""The lab's commands in processes of their own, which are forks of one that has imported the library."""

import os
import re

import torch

from helpers.processes import fork, free_port, launch

TYPED = ["--data", "digits", "--epochs", "3", "--batch-size", "128", "--device", "cpu"]
"""A short run, as it is typed."""

ON_RANKS = """
    import io
    import os
    import sys
    from contextlib import redirect_stderr, redirect_stdout

    import torch
    from infobatch.lab import cli

    rank, _, folder = sys.argv[1:]
    said = []
    for port, arguments in COMMANDS:
        os.environ["MASTER_PORT"] = str(port)
        code, words = 0, io.StringIO()
        with redirect_stdout(words), redirect_stderr(words):
            try:
                cli.main(arguments)
            except SystemExit as stopped:
                code = stopped.code
        said.append((code, words.getvalue()))
    torch.save(said, f"{folder}/{rank}.pt")
"""


def refused_as_changed(called):
    """The data that a command refused because they have changed since its run; None if it did not."""
    code, _, error = called
    found = re.search("the data in (.+) have changed since the run was started; put them back", error)
    assert found is None or code == 2
    return found and found.group(1)


def on_ranks(commands, num_replicas, folder):
    """Run commands one after another on the same ranks: by rank, each one's exit code and words.

    Each command has a port of its own, for a rank may begin it while another ends the one before.
    """
    typed = [(free_port(), [*map(str, command)]) for command in commands]
    return launch(ON_RANKS.replace("COMMANDS", repr(typed)), num_replicas, folder)


def start(*arguments, log=os.devnull):
    """Start a command; what it prints goes to a file."""
    return fork(_type, [*map(str, arguments)], log)


def _type(arguments, log):
    """Be the process of a command."""
    from infobatch.lab import cli

    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    cli.main(arguments)
