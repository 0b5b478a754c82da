"""Programs on several ranks, and what they make once for all tests."""

import multiprocessing
import os
import socket
import sys
import textwrap
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from filelock import FileLock

TESTS = Path(__file__).parents[1]
SECONDS = 100  # within which a program must have come to its end

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["infobatch", "torch.distributed"])


def launch(program, num_replicas, folder, path=()):
    """Run a program in as many processes, as torchrun does; what they saved, by rank.

    The processes are forks of one that has imported the library, which takes seconds.
    """
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment |= {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(num_replicas)}
    ranks = [
        _forks.Process(target=_run, args=(program, rank, num_replicas, folder, path, environment))
        for rank in range(num_replicas)
    ]
    for rank in ranks:
        rank.start()
    try:
        for rank in ranks:
            rank.join(SECONDS)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    errors = [(folder / f"{rank}.err").read_text() for rank in range(num_replicas)]
    assert [rank.exitcode for rank in ranks] == [0] * num_replicas, "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt") for rank in range(num_replicas)]


def _run(program, rank, num_replicas, folder, path, environment):
    """Run a program as this process, which is the rank's own."""
    with open(folder / f"{rank}.err", "w") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
    found = os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])
    os.environ |= {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": found}
    multiprocessing.set_start_method(None, force=True)  # the platform's, for the program's own processes
    sys.path[:0] = path
    sys.argv = ["-c", str(rank), str(num_replicas), str(folder)]
    torch.set_num_threads(1)
    torch.manual_seed(0)  # a failure can be seen again
    exec(compile(textwrap.dedent(program), "<program>", "exec"), {"__name__": "__main__"})


def error_without(packages, module, folder):
    """What importing a module of the library says where packages are not installed."""
    program = f"""
        import sys
        import torch

        sys.modules |= dict.fromkeys({packages})
        try:
            import {module}
        except ImportError as error:
            torch.save(str(error), f"{{sys.argv[3]}}/0.pt")
    """
    (said,) = launch(program, 1, folder)
    return said


def fork(target, *arguments):
    """Start a function in a process that has imported the library already."""
    process = _forks.Process(target=target, args=arguments)
    process.start()
    return process


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def made_once(name, make, tmp_path_factory):
    """The folder that ``make`` filled, the same in all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


@contextmanager
def ray_cluster():
    """Ray on this machine, with room for two workers that find the tests' own modules."""
    ray = pytest.importorskip("ray")
    paths = [TESTS, TESTS.parent / "examples"]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ray")  # of its own use
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)), prepend=os.pathsep)
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # how often it looks, else every 2 s
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
