"""Ten minutes on a GPU: whether it works, whether pruning beats a shorter run there, and how fast it is.

    python benchmarks/gpu.py [--kit FOLDER] [--data-dir DIR] [--out FOLDER] [--minutes M] [--save P]
                             [--noise N] [--seed N] [--small]

In turn, each in a process of its own: the CUDA tests; a short run whose steps are recorded as graphs,
and without them if that fails; ``infobatch contest cifar10-speed``, which gets most of the time;
images a second, share of the peak, and an epoch beside as many plain steps on one batch, for ResNet-18
at batch 128 and 1024 and for the contest's network. --out then holds few and small files: runs.json,
which is written again after each run of the contest, the report, and log.txt with all that was
printed. --small takes a tenth of the images and a narrow network, for a CPU. --kit is what
``make gpu-kit`` made: the data set, and packages that the machine may lack.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "cifar10-speed"
POLICIES = "infobatch,spaced,noise-budget,proxy-filtering:proxy=speed-cnn-narrow"
SMALL = ["--device", "cpu", "--train-samples", "5000", "--batch-size", "100"]
SMALL += ["--model", "speed-cnn-narrow", "--lr", "0.35"]
SMALL_CONTEST = ["--batch-multiple", "4", "--jobs", "2"]
SMALL_PROXY = "proxy-filtering:proxy=small-cnn"
TESTS_SECONDS, TRIAL_SECONDS, SPEED_SECONDS = 75, 60, 55
SPEEDS = 3
CLOSING_SECONDS = 20
"""For the last step of a run that is stopped, and the report."""
REPORT = ("report.md", "report.html", "costs.png", "differences.png")
LONGEST_OUTPUT = 100_000


class Runner:
    """Runs commands of the project until the time is over, and keeps what they print.

    Args:
        options: The command line's.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.out: Path = options.out
        self.end = time.monotonic() + 60 * options.minutes
        paths = [str(ROOT / "src"), *map(str, sorted((options.kit or ROOT).glob("*.whl")))]
        known = os.environ.get("PYTHONPATH", "")
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, known])}

    @property
    def seconds_left(self) -> float:
        return self.end - time.monotonic()

    def run(self, name: str, arguments: Sequence[str], seconds: float) -> bool:
        """Run one part, for so long at most, and note how it ended; whether it ended well."""
        seconds = min(seconds, self.seconds_left)
        if seconds < 5:
            print(f"{name}: no time left", flush=True)
            return False
        began = time.monotonic()
        printed = self.out / "printed.txt"
        with printed.open("w") as file:
            command = [sys.executable, *arguments]
            try:
                code: int | str = subprocess.run(
                    command, env=self.environment, cwd=ROOT, stdout=file, stderr=file, timeout=seconds
                ).returncode
            except subprocess.TimeoutExpired:
                code = f"stopped after {seconds:.0f} s"
        text = printed.read_text()
        printed.unlink()
        title = f"== {name}: {code}, {time.monotonic() - began:.0f} s\n"
        with (self.out / "log.txt").open("a") as file:
            file.write(f"{title}{shlex.join(arguments)}\n{text[-LONGEST_OUTPUT:]}\n")
        print(f"{title}{text[-1500:]}", flush=True)
        return code == 0


def lab(*arguments: str) -> list[str]:
    return ["-m", "infobatch.lab.cli", *arguments]


def gather(contest: Path, out: Path) -> None:
    """Write all finished runs of a contest into one file, and copy its report."""
    runs = {}
    for summary in sorted(contest.rglob("summary.json")):
        folder = summary.parent
        try:
            runs[str(folder.relative_to(contest))] = {
                "config": json.loads((folder / "config.json").read_text()),
                "summary": json.loads(summary.read_text()),
                "metrics": [*map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())],
            }
        except (ValueError, OSError):
            continue  # is being written
    partial = out / "runs.json.partial"
    partial.write_text(json.dumps(runs))
    partial.replace(out / "runs.json")
    for name in REPORT:
        for file in contest.rglob(f"report/{name}"):
            shutil.copy(file, out / name)


def gather_until(done: threading.Event, contest: Path, out: Path) -> None:
    while not done.wait(5):
        gather(contest, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kit", type=Path, metavar="FOLDER", help="what make gpu-kit made")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="by default the kit's")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it (default 9.5)")
    parser.add_argument("--save", default="50", help="percent left out in the contest (default 50)")
    parser.add_argument("--noise", help="budget of noise, for noise-budget in place of --save")
    parser.add_argument("--seed", type=int, default=0, help="the contest's first (default 0)")
    parser.add_argument("--peak", default="989", metavar="TFLOPS", help="default: an H100 in bf16")
    parser.add_argument("--small", action="store_true", help="a tenth of the size, on a CPU")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.out = options.out.resolve()
    (options.out / "log.txt").unlink(missing_ok=True)
    options.kit = options.kit.resolve() if options.kit else None
    runner = Runner(options)
    where = options.data_dir or options.kit
    data = ["--data-dir", str(where.resolve())] if where else []
    small = SMALL if options.small else []

    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/promises/test_cuda.py"]
    runner.run("tests", tests, TESTS_SECONDS)

    work = options.out.parent / f"{options.out.name}-work"
    shutil.rmtree(work, ignore_errors=True)
    trial = ["train", RECIPE, *data, *small, "--policy", "none", "--epochs", "1"]
    recorded = runner.run("trial", lab(*trial, "--out", str(work / "trial")), TRIAL_SECONDS)
    slow = [] if recorded else ["--no-resident"]

    contest = work / "contest"
    names = POLICIES.rpartition(",")[0] + f",{SMALL_PROXY}" if options.small else POLICIES
    typed = ["contest", RECIPE, *data, *small, *slow, *(SMALL_CONTEST if options.small else [])]
    typed += ["--policies", names, "--save", options.save]
    typed += ["--noise", options.noise] if options.noise else []
    later = CLOSING_SECONDS + (0 if options.small else SPEEDS * SPEED_SECONDS)
    minutes = (runner.seconds_left - later) / 60
    typed += ["--seeds", "100", "--seed", str(options.seed), "--minutes", f"{minutes:.2f}"]
    done = threading.Event()
    watcher = threading.Thread(target=gather_until, args=(done, contest, options.out))
    contest.mkdir(parents=True)
    watcher.start()
    runner.run("contest", lab(*typed, "--out", str(contest)), 60 * minutes + CLOSING_SECONDS)
    done.set()
    watcher.join()
    gather(contest, options.out)

    if not options.small:
        for recipe, size in (
            ("cifar10-resnet18", "128"),
            ("cifar10-resnet18", "1024"),
            (RECIPE, "1000"),
        ):
            speed = ["benchmarks/data_path.py", "--recipe", recipe, "--batch-size", size, *data]
            speed += ["--repeats", "3", "--peak", options.peak]
            runner.run(f"speed-{recipe}-{size}", speed, SPEED_SECONDS)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
