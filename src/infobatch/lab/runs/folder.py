"""A run's folder: everything known of it, in files that any tool can open.

config.json      the options
metrics.jsonl    one line an epoch
scores.npz       last loss, visits and the last selection's weight of each sample
static-scores.npz  of a policy that goes by scores made beforehand
checkpoint.pt    to go on from, loaded with weights_only=True; gone once finished
trainer          the same, of tasks that the Hugging Face Trainer trains
model.safetensors
samples.png      what a model that makes images makes; written by `infobatch eval`
summary.json     the result; there once the run has finished
lock             held by the process that trains it, and released by its end, however it ends
"""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from infobatch.lab.config.train import TrainConfig, flag
from infobatch.lab.files import make_writable, read_json, unwritable, write_whole
from infobatch.lab.runs.records import EpochMetrics, Summary, renamed

WHERE = ("data_dir", "device", "workers", "probe")
"""Options that say where a run is trained, or what is measured of it, not what is trained."""


class RunFolder:
    """Reads and writes one run's files; each is replaced whole, so that a kill leaves the old one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / "lock")

    def claim(self) -> bool:
        """Lock it, unless another process has."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            raise unwritable(self.path, error) from error
        return True

    def release(self) -> None:
        self._lock.release()

    @property
    def exists(self) -> bool:
        return (self.path / "config.json").exists()

    @property
    def finished(self) -> bool:
        return (self.path / "summary.json").exists()

    def check_unused(self) -> bool:
        """True, or ``FileExistsError`` if a new run would not be alone in the folder."""
        if self.path.exists() and any(path.name != "lock" for path in self.path.iterdir()):
            what = "a finished run" if self.finished else "a run" if self.exists else "other files"
            unfinished = self.exists and not self.finished
            remedy = ", or give --resume to go on with it" if unfinished else ""
            raise FileExistsError(f"{self.path} already holds {what}; choose another --out{remedy}")
        return True

    def create(self, config: TrainConfig) -> None:
        """Begin a new run in the folder."""
        self.check_unused()
        make_writable(self.path)
        self._write("config.json", json.dumps(config.to_json(), indent=2))

    def require(self, config: TrainConfig) -> None:
        """Raise ``ValueError`` if the folder's run has other options."""
        require_same(config, self.config(), self.path)

    def config(self) -> TrainConfig:
        if not self.exists:
            raise FileNotFoundError(f"{self.path} holds no run (no config.json); check the folder")
        path = self.path / "config.json"
        values = read_json(path)
        try:
            return TrainConfig.from_json(values)
        except ValueError as error:
            raise ValueError(f"{path} holds no options of a run ({error}); restore it") from error

    def metrics(self) -> list[EpochMetrics]:
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        try:
            return [
                EpochMetrics(**renamed(json.loads(line), {"test_accuracy": "result"})) for line in lines
            ]
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); remove the run's folder") from error

    def write_metrics(self, metrics: Sequence[EpochMetrics]) -> None:
        self._write("metrics.jsonl", "".join(json.dumps(asdict(m)) + "\n" for m in metrics))

    def summary(self) -> Summary:
        if not self.finished:
            raise FileNotFoundError(
                f"{self.path} holds no finished run (no summary.json); finish it with "
                f"`infobatch train --out {self.path} --resume`"
            )
        return Summary.from_json(read_json(self.path / "summary.json"))

    def write_summary(self, summary: Summary) -> None:
        self._write("summary.json", json.dumps(asdict(summary), indent=2))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        write_whole(self.path / "checkpoint.pt", lambda path: torch.save(state, path))

    def load_checkpoint(self) -> dict[str, Any] | None:
        path = self.path / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}); remove it to train this run from its "
                "start"
            ) from error
        return state

    @property
    def trainer_path(self) -> Path:
        """Where the Hugging Face Trainer keeps its checkpoints."""
        return self.path / "trainer"

    def drop_checkpoint(self) -> None:
        shutil.rmtree(self.trainer_path, ignore_errors=True)
        for path in (self.path / "checkpoint.pt", *self.path.glob("*.part")):
            path.unlink(missing_ok=True)

    def save_static_scores(self, scores: torch.Tensor, seconds: float) -> None:
        """``scores``: (N,), made beforehand; ``seconds``: what they took."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, scores=scores.numpy(), seconds=seconds)

        write_whole(self.path / "static-scores.npz", write)

    def load_static_scores(self) -> tuple[torch.Tensor, float] | None:
        path = self.path / "static-scores.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                return torch.from_numpy(file["scores"]), float(file["seconds"])
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged ({error}); remove it to make them anew") from error

    def save_model(self, model: torch.nn.Module) -> None:
        from safetensors.torch import save_file

        tensors = {name: t.contiguous() for name, t in saved_tensors(model).items()}
        write_whole(self.path / "model.safetensors", lambda path: save_file(tensors, path))

    def load_model(self, model: torch.nn.Module) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path / "model.safetensors"
        try:
            tensors = load_file(path)
            if tensors.keys() != saved_tensors(model).keys():
                raise RuntimeError("other weights than it has")
            model.load_state_dict(tensors, strict=False)
        except (SafetensorError, RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} does not hold this run's model ({reason}); restore it") from error

    def scores(self) -> dict[str, torch.Tensor]:
        """The columns of scores.npz, each of shape (N,)."""
        with np.load(self.scores_path, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}

    @property
    def scores_path(self) -> Path:
        return self.path / "scores.npz"

    def _write(self, name: str, text: str) -> None:
        write_whole(self.path / name, lambda path: path.write_text(text))


def saved_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What is kept of a trained model: all of it, or of one with adapters (PEFT) what was trained.

    Of weights that are used twice, the first.
    """
    frozen: set[str] = set()
    if hasattr(model, "peft_config"):
        parameters = model.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in parameters if not parameter.requires_grad}
    kept: dict[str, torch.Tensor] = {}
    places: set[tuple[int, torch.Size]] = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if name not in frozen and (place not in places or tensor.numel() == 0):
            kept[name] = tensor
        places.add(place)
    return kept


def require_same(wanted: TrainConfig, there: TrainConfig, path: Path) -> None:
    """Raise ``ValueError`` if what is there was trained with other options."""
    for name, (now, then) in wanted.differences(there).items():
        if name not in WHERE:
            raise ValueError(
                f"{path} was trained with {flag(name)} {then}, but {flag(name)} {now} is wanted, and "
                "mixing them would spoil the result; choose another --out, or remove that folder"
            )
