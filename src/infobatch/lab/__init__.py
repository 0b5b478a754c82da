"""The lab: it trains, compares and reports through the same public calls as everybody else.

Its rooms, in the order in which a run passes through them:

- ``commands``, with ``cli``: the command line; it makes configurations of what is typed.
- ``recipes``: configurations by name, of published experiments and of small ones.
- ``config``: the options of a run as plain data.
- ``data``: data sets, and how they reach the device.
- ``models``: networks by name.
- ``tasks``: what is learned: inputs, losses and evaluation.
- ``training``: the check of a configuration, and the loops that train it.
- ``runs``: the folder of a run, and the records in it.
- ``comparison``: many runs that are compared: the arms of a comparison, sweeps and contests.
- ``report``: tables, plots and pages of finished runs.
- ``explorer``: the data of a recorded run, sample by sample, as a page.

Beside them is what several rooms need: ``devices``, ``files``, ``functions``, ``interrupts``, ``names``,
``processes`` and ``random_streams``.

The method imports nothing of it. Its packages are installed by ``pip install 'infobatch[lab]'``.

``from infobatch.lab import compare`` compares pruning with its rivals by a training function of yours;
``explore`` shows the samples of a run whose losses were recorded.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "compare":  # imported when it is asked for, for all rooms are below it
        from infobatch.lab.commands.own import compare

        return compare
    if name == "explore":
        from infobatch.lab.explorer.explore import explore

        return explore
    raise AttributeError(f"module {__name__} has no attribute {name}")
