"""A run on two hosts, of which one dies within an epoch, goes on from its checkpoint on the other alone.

The hosts are network namespaces with an address each, joined by a wire. Where those cannot be made (it
takes root and iproute2) they are two torchruns on the loopback.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

from helpers import check_same_history
from helpers.processes import TESTS, free_port
from infobatch import DynamicPruner, InfoBatch

pytestmark = pytest.mark.slow

SIZE, EPOCHS, GLOBAL_BATCH = 120, 4, 8
SAVE_EVERY, DIES_AFTER = 6, 20  # steps; epoch 1 begins with the 16th
PATIENCE = 90  # seconds within which a host must have come to its end


class Training:
    """A small one; ``wrap`` makes the model one of several ranks."""

    def __init__(self, num_replicas=1, wrap=lambda model: model):
        generator = torch.Generator().manual_seed(5)
        inputs = torch.randn(SIZE, 6, generator=generator)
        points = TensorDataset(inputs, torch.randint(3, (SIZE,), generator=generator))
        torch.manual_seed(2)
        self.model = torch.nn.Linear(6, 3)
        self.wrapped = wrap(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, momentum=0.9)
        self.pruner = DynamicPruner(points, EPOCHS, policy=InfoBatch(0.9), delta=1)
        self.loader = self.pruner.loader(GLOBAL_BATCH // num_replicas)
        self.num_steps = 0

    def state_dict(self):
        parts = [self.model, self.optimizer, self.pruner]
        return {"num_steps": self.num_steps, "parts": [part.state_dict() for part in parts]}

    def load_state_dict(self, state):
        self.num_steps = state["num_steps"]
        for part, saved in zip([self.model, self.optimizer, self.pruner], state["parts"], strict=True):
            part.load_state_dict(saved)

    def steps(self):
        """Each step's epoch and samples, once it is done."""
        for epoch in self.pruner.epochs():
            for indices, (inputs, labels) in self.loader:
                losses = F.cross_entropy(self.wrapped(inputs), labels, reduction="none")
                self.pruner.update(losses, indices).backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.num_steps += 1
                yield epoch, indices.tolist()


PROGRAM = """
    import json, os, sys, time
    from datetime import timedelta
    from pathlib import Path

    import torch
    import torch.distributed as dist
    from test_two_hosts import DIES_AFTER, PATIENCE, SAVE_EVERY, Training
    from torch.nn.parallel import DistributedDataParallel

    folder, host, dies = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "dies"
    (folder / f"{host}.pid").write_text(str(os.getpid()))

    def save(state, name):
        if dist.get_rank() == 0:
            torch.save(state, folder / f"{host}.part")
            (folder / f"{host}.part").replace(folder / name)  # whole or not at all

    def main():
        run = Training(dist.get_world_size(), DistributedDataParallel)
        if (folder / "last.pt").exists():
            run.load_state_dict(torch.load(folder / "last.pt", weights_only=True))
        with (folder / f"{host}.log").open("a", buffering=1) as log:
            for epoch, indices in run.steps():
                log.write(json.dumps([run.num_steps, epoch, indices]) + chr(10))
                if run.num_steps % SAVE_EVERY == 0:
                    save(run.state_dict(), "last.pt")
                if dies and run.num_steps == DIES_AFTER:
                    (folder / "waits").touch()
                    time.sleep(PATIENCE)
        save(run.state_dict(), "end.pt")

    dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE))
    try:
        main()
        dist.barrier()
    finally:
        dist.destroy_process_group()
"""


@dataclass
class Host:
    """Where a torchrun runs: ``inside`` comes before its command."""

    name: str
    address: str
    interface: str
    inside: tuple[str, ...] = ()

    def torchrun(self, folder, num_nodes, endpoint, dies=False):
        """Begin a rank here; ``endpoint``: the host that the others meet at, and its port."""
        meeting_at, port = endpoint
        command = [
            *(*self.inside, sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes", str(num_nodes), "--nproc-per-node", "1", "--local-addr", self.address),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{meeting_at.address}:{port}"),
            *("--rdzv-conf", f"is_host={meeting_at is self}", "--rdzv-id", "run"),
            *(folder / "program.py", folder, self.name, "dies" if dies else "lives"),
        ]
        path = os.pathsep.join(
            [str(TESTS), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        )
        environment = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": self.interface}
        with (folder / f"{self.name}.err").open("a") as errors:
            return subprocess.Popen(command, env={**os.environ, **environment}, stderr=errors)


def ip(words):
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Two hosts with a network between them and none else."""
    names = [f"infobatch-{os.getpid()}-{letter}" for letter in "ab"]
    made = [
        Host(name[-1], f"10.77.0.{number}", f"veth-{name[-1]}", ("ip", "netns", "exec", name))
        for number, name in enumerate(names, 1)
    ]
    one, two = names
    try:
        for name in names:
            ip(f"netns add {name}")
        ip(f"link add veth-a netns {one} type veth peer name veth-b netns {two}")
        for name, host in zip(names, made, strict=True):
            ip(f"-n {name} address add {host.address}/24 dev {host.interface}")
            ip(f"-n {name} link set {host.interface} up")
            ip(f"-n {name} link set lo up")
            ip(f"netns exec {name} true")
    except (OSError, subprocess.CalledProcessError):
        made = [Host(letter, "127.0.0.1", "lo") for letter in "ab"]
    yield made
    for name in names:
        with suppress(OSError):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def kill(folder, host, agent):
    """The agent and its worker, without a chance to say good-bye."""
    agent.kill()
    agent.wait()
    with suppress(ProcessLookupError):
        os.kill(int((folder / f"{host.name}.pid").read_text()), signal.SIGKILL)


def wait_for(happened, folder):
    end = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > end:
            pytest.fail("\n".join(path.read_text() for path in folder.glob("*.err")))
        time.sleep(0.05)


def logged(folder, host):
    """(step, epoch, samples) of each step that a host's rank has trained."""
    return [json.loads(line) for line in (folder / f"{host.name}.log").read_text().splitlines()]


@pytest.mark.parametrize("dying", [0, 1], ids=["the host they met at", "the other host"])
def test_what_a_dead_host_left_is_trained_once(dying, hosts, tmp_path):
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    endpoint, agents = (hosts[0], free_port()), []
    dead, survivor = hosts[dying], hosts[1 - dying]
    try:
        for host in hosts:
            agents.append(host.torchrun(tmp_path, 2, endpoint, dies=host is dead))
        wait_for((tmp_path / "waits").exists, tmp_path)
        kill(tmp_path, dead, agents[dying])
        wait_for(lambda: agents[1 - dying].poll() is not None, tmp_path)
        assert agents[1 - dying].returncode != 0, "the survivor notices"
        before = [logged(tmp_path, host) for host in hosts]
        saved = torch.load(tmp_path / "last.pt", weights_only=True)

        (tmp_path / f"{survivor.name}.log").unlink()
        agents = [survivor.torchrun(tmp_path, 1, (survivor, free_port()))]
        wait_for(lambda: agents[0].poll() is not None, tmp_path)
        assert agents[0].returncode == 0, (tmp_path / f"{survivor.name}.err").read_text()
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
    after, state = logged(tmp_path, survivor), saved["parts"][2]
    epoch, recorded = state["epoch"], state["recorded"].nonzero().flatten().tolist()
    selected = state["weights"].nonzero().flatten().tolist()
    assert 0 < len(recorded) < len(selected) < SIZE, "it died within a pruned epoch"

    def trained(steps):
        return sorted(i for step, number, part in steps for i in part if number == epoch and i >= 0)

    upto = saved["num_steps"]
    assert trained(step for steps in before for step in steps if step[0] <= upto) == recorded
    assert sorted(recorded + trained(after)) == selected, "each remaining sample once"

    alone = Training()
    steps = [[alone.num_steps, *step] for step in alone.steps()]
    assert [step for step in steps if step[0] > upto] == after
    end, expected = torch.load(tmp_path / "end.pt", weights_only=True), alone.state_dict()
    assert end["num_steps"] == expected["num_steps"]
    compare(end["parts"], expected["parts"])


def compare(ours, expected):
    (model, _, pruner), (expected_model, _, expected_pruner) = ours, expected
    check_same_history(pruner["history"], expected_pruner["history"])
    for name in ("weights", "recorded"):
        assert torch.equal(pruner[name], expected_pruner[name])
    columns, expected_columns = (each["scores"]["columns"] for each in (pruner, expected_pruner))
    assert torch.equal(columns["visits"], expected_columns["visits"])
    torch.testing.assert_close(columns["last_loss"], expected_columns["last_loss"], rtol=0, atol=1e-6)
    torch.testing.assert_close(model, expected_model, rtol=0, atol=1e-6)
