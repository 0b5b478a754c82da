"""Whether a run that is killed again and again ends as one that nobody touched, to the last bit.

    python benchmarks/killed.py [--kills 100] [--seed S] [--only NAME ...] [--json FILE]

Every run is killed (kill -9) at a random moment of its training, and started again, which goes on from
its last checkpoint; until it has come to its end. Parameters, optimizer, scores and schedule are then
compared with those of a run that was not interrupted, and wrote no checkpoints. Where a kill landed is
told by what it left behind: no checkpoint yet, one half written, or a whole one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from killed_runs import SET_UPS, Place, SetUp

from infobatch.lab.runs.environment import describe_environment

LANDINGS = ("before the first checkpoint", "within a checkpoint's writing", "later")
SPANS = (0.6, 0.6, 0.6, 0.05)
"""A kill comes before one of these parts of a whole run's time, counted from each start."""
SECONDS = 120.0
"""Within which a run that is not killed must have come to its end."""


class Failed(Exception):
    """A run ended with an error, or not at all."""


# -- One start of a run ----------------------------------------------------------------------------


def digests(state: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All that a state holds, by its path: a hash of each tensor, each number in full."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from digests(value, f"{name}/{key}")
    elif isinstance(state, list | tuple):
        for place, value in enumerate(state):
            yield from digests(value, f"{name}/{place}")
    elif isinstance(state, torch.Tensor):
        content = state.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        yield name, f"{state.dtype} {tuple(state.shape)} {hashlib.sha256(content).hexdigest()[:16]}"
    else:
        yield name, repr(state)


def _end(folder: Path, rank: int) -> Path:
    return folder / f"end-{rank}.json"


class Start:
    """The processes of a run, from its last checkpoint on. They are forks, so that starts are quick.

    Args:
        set_up: What they train.
        folder: The run's folder.
        number: How often it was started before.
        saves: Whether it writes checkpoints.
    """

    def __init__(self, set_up: SetUp, folder: Path, number: int = 0, saves: bool = True) -> None:
        self._folder = folder
        self._ends, beginnings = os.pipe()
        self._processes: list[int] = []
        for rank in range(set_up.num_ranks):
            process = os.fork()
            if process == 0:
                begin = lambda: os.write(beginnings, b".")  # noqa: E731
                _work(set_up, Place(folder, begin, saves, rank, set_up.num_ranks, number))
            self._processes.append(process)
        os.close(beginnings)
        for _ in self._processes:
            self._wait_for_beginning()
        self.began = time.perf_counter()

    def _wait_for_beginning(self) -> None:
        if not select.select([self._ends], [], [], SECONDS)[0] or not os.read(self._ends, 1):
            self.kill(random.Random(0))
            raise Failed(f"training never began:\n{self._errors()}")

    def ended(self, seconds: float) -> bool:
        """Whether all processes come to their end within so many seconds."""
        until = time.perf_counter() + seconds
        statuses: dict[int, int] = {}
        while len(statuses) < len(self._processes):
            for process in self._processes:
                if process not in statuses:
                    found, status = os.waitpid(process, os.WNOHANG)
                    if found:
                        statuses[process] = status
            if any(statuses.values()) or time.perf_counter() > until:
                self._processes = [each for each in self._processes if each not in statuses]
                if any(statuses.values()):
                    self.kill(random.Random(0))
                    raise Failed(f"a process ended by itself:\n{self._errors()}")
                return False
            time.sleep(0.0005)
        self._processes = []
        os.close(self._ends)
        return True

    def kill(self, rng: random.Random) -> None:
        """Kill all processes and their workers, one after another in a random order."""
        for process in rng.sample(self._processes, len(self._processes)):
            try:
                os.killpg(process, signal.SIGKILL)
            except ProcessLookupError:  # not yet a group of its own
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self._processes = []
        os.close(self._ends)

    def _errors(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.err")))


def _work(set_up: SetUp, place: Place) -> None:
    """What a fork does: train, leave the digests of its end, and go."""
    status = 1
    try:
        os.setsid()  # a group of its own, with its workers
        with open(place.folder / f"{place.rank}.err", "w") as errors:
            os.dup2(errors.fileno(), sys.stdout.fileno())
            os.dup2(errors.fileno(), sys.stderr.fileno())
        end = dict(digests(set_up.run(place)))
        _end(place.folder, place.rank).write_text(json.dumps(end))
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def end_of(set_up: SetUp, folder: Path) -> list[dict[str, str]]:
    """The digests that a run left, by rank."""
    return [json.loads(_end(folder, rank).read_text()) for rank in range(set_up.num_ranks)]


# -- Runs ------------------------------------------------------------------------------------------


def untouched(set_up: SetUp, folder: Path, saves: bool) -> tuple[list[dict[str, str]], float]:
    """The end of a run that nobody kills, and the seconds that its training took."""
    folder.mkdir()
    start = Start(set_up, folder, saves=saves)
    if not start.ended(SECONDS):
        start.kill(random.Random(0))
        raise Failed(f"a run that was not killed had no end within {SECONDS:g} seconds")
    return end_of(set_up, folder), time.perf_counter() - start.began


def killed(
    set_up: SetUp, folder: Path, most_kills: int, seconds: float, rng: random.Random
) -> tuple[list[dict[str, str]], Counter[str]]:
    """The end of a run that is killed at random moments, and where the kills landed."""
    folder.mkdir()
    landings: Counter[str] = Counter()
    for number in range(most_kills + 1):
        start = Start(set_up, folder, number)
        last = number == most_kills
        if start.ended(SECONDS if last else rng.uniform(0, rng.choice(SPANS) * seconds)):
            return end_of(set_up, folder), landings
        start.kill(rng)
        if last:
            break
        if set_up.is_writing(folder):
            landings[LANDINGS[1]] += 1
        else:
            landings[LANDINGS[2 if set_up.saved(folder) else 0]] += 1
    raise Failed(f"the run had no end within {SECONDS:g} seconds of its last start")


def try_set_up(name: str, kills: int, rng: random.Random, folder: Path) -> dict[str, Any]:
    """Kill runs of a set-up so many times in all, and compare their ends."""
    set_up, landings, num_identical, faults = SET_UPS[name], Counter[str](), 0, []
    expected, _ = untouched(set_up, folder / "untouched", saves=False)
    end, seconds = untouched(set_up, folder / "saving", saves=True)
    if end != expected:
        faults.append(f"a run that saves, and is not killed: {difference(end, expected)}")
    num_runs = 0
    while landings.total() < kills:
        num_runs += 1
        try:
            end, landed = killed(set_up, folder / str(num_runs), kills - landings.total(), seconds, rng)
        except Failed as error:
            faults.append(f"run {num_runs}: {error}")
            break
        landings += landed
        num_identical += end == expected
        if end != expected:
            faults.append(f"run {num_runs}: {difference(end, expected)}")
    return {
        "name": name,
        "kills": landings.total(),
        "landings": {landing: landings[landing] for landing in LANDINGS},
        "runs": num_runs,
        "identical": num_identical,
        "faults": faults,
    }


def difference(end: list[dict[str, str]], expected: list[dict[str, str]]) -> str:
    """Where two ends differ."""
    names = [
        f"{name} on rank {rank}"
        for rank, (ours, theirs) in enumerate(zip(end, expected, strict=True))
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]
    return f"{len(names)} parts of its end differ, such as {', '.join(names[:3])}"


def told(row: dict[str, Any]) -> str:
    """A set-up's line."""
    landings = ", ".join(f"{count} {landing}" for landing, count in row["landings"].items())
    return (
        f"{row['name']:13} {row['kills']:3} kills ({landings}): "
        f"{row['identical']} of {row['runs']} runs ended identical"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="of all set-ups together (default 100)")
    parser.add_argument("--seed", type=int, help="of the moments (default: by the clock)")
    parser.add_argument("--only", nargs="+", choices=SET_UPS, default=list(SET_UPS), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.kills < len(options.only):
        parser.error(f"--kills is {options.kills}; give at least one for each of {len(options.only)}")
    seed = time.time_ns() % 10**6 if options.seed is None else options.seed
    torch.set_num_threads(1)
    where = describe_environment(torch.device("cpu"))
    print(f"seed {seed}, " + ", ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork")
    rng, rows, began = random.Random(seed), [], time.perf_counter()
    share, more = divmod(options.kills, len(options.only))
    for place, name in enumerate(options.only):
        with tempfile.TemporaryDirectory() as folder:
            row = try_set_up(name, share + (place < more), rng, Path(folder))
        rows.append(row)
        print(told(row), *row["faults"], sep="\n  ", flush=True)
    kills, runs = (sum(row[name] for row in rows) for name in ("kills", "runs"))
    identical, seconds = sum(row["identical"] for row in rows), time.perf_counter() - began
    print(f"{kills} kills, {identical} of {runs} runs ended identical, {seconds:.0f} s")
    if options.json:
        found = {"seed": seed, "environment": where, "results": rows}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if any(row["faults"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
