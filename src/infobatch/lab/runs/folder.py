"""A run's folder: everything known of it, in files that any tool can open.

config.json        the options
metrics.jsonl      a line for each epoch
scores.npz         each sample's last loss, visits and weight in the last selection
static-scores.npz  the scores that a static policy goes by
dynamics/          with --record, what was recorded of each epoch, sample by sample
checkpoint.pt      the state to resume from, loaded with weights_only=True; gone once finished
trainer/           the same for tasks that the Hugging Face Trainer trains
model.safetensors  the trained model
explore.html       the page of its data, written by `infobatch explore`
samples.png        images that a model makes, written by `infobatch eval`
summary.json       the result; there once the run has finished
lock               held by the process that trains the run, and released when it ends, however it ends
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from infobatch.lab.config.train import TrainConfig
from infobatch.lab.files import (
    PART,
    finite,
    load_tensors,
    make_writable,
    naming_damaged,
    read_json,
    unwritable,
    write_whole,
)
from infobatch.lab.runs.records import EpochMetrics, Summary
from infobatch.lab.runs.same_options import require_same

FROM_ITS_START = "remove it to train this run from its start"


def check_is_one_run(path: Path) -> None:
    """Raise ``ValueError`` for a folder of several runs, and name one of them."""
    if (path / "summary.json").exists() or (path / "config.json").exists():
        return
    if runs := sorted(each.parent for each in path.glob("**/seed-*/summary.json")):
        raise ValueError(f"{path} holds {len(runs)} runs; give one of them, such as {runs[0]}")


class RunFolder:
    """Reads and writes one run's files; each is replaced whole, so that a kill leaves the old one.

    Args:
        path: The folder, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / "lock")

    def claim(self) -> bool:
        """Lock the run for this process.

        Returns:
            Whether it is locked now; False if another process holds the lock.

        Raises:
            PermissionError: If nothing can be written there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            raise unwritable(self.path, error) from error
        for part in self.path.glob(f"*{PART}"):  # a killed process left it half written
            part.unlink(missing_ok=True)
        return True

    def release(self) -> None:
        """Unlock the run."""
        self._lock.release()

    @property
    def exists(self) -> bool:
        """Whether a run was begun in the folder."""
        return (self.path / "config.json").exists()

    @property
    def finished(self) -> bool:
        """Whether the folder's run has finished."""
        return (self.path / "summary.json").exists()

    def check_unused(self) -> bool:
        """Check that a new run would be alone in the folder.

        Returns:
            True.

        Raises:
            FileExistsError: If it would not.
        """
        if self.path.exists() and any(path.name != "lock" for path in self.path.iterdir()):
            what = "a finished run" if self.finished else "a run" if self.exists else "other files"
            unfinished = self.exists and not self.finished
            remedy = ", or give --resume to go on with it" if unfinished else ""
            raise FileExistsError(f"{self.path} already holds {what}; choose another --out{remedy}")
        return True

    def create(self, config: TrainConfig) -> None:
        """Begin a new run in the folder.

        Args:
            config: The run's options.

        Raises:
            FileExistsError: If something else is in the folder.
            PermissionError: If nothing can be written there.
        """
        self.check_unused()
        make_writable(self.path)
        self._write("config.json", json.dumps(config.to_json(), indent=2))

    def require(self, config: TrainConfig) -> None:
        """Check that the folder's run has these options.

        Args:
            config: The options.

        Raises:
            ValueError: If it has others.
        """
        require_same(config, self.config(), self.path)

    def config(self) -> TrainConfig:
        """Read the run's options.

        Returns:
            The options.

        Raises:
            FileNotFoundError: If the folder holds no run.
            ValueError: If the file is damaged.
        """
        if not self.exists:
            raise FileNotFoundError(f"{self.path} holds no run (no config.json); check the folder")
        path = self.path / "config.json"
        values = read_json(path)
        try:
            return TrainConfig.from_json(values)
        except ValueError as error:
            raise ValueError(f"{path} holds no options of a run ({error}); restore it") from error

    def metrics(self) -> list[EpochMetrics]:
        """Read what is recorded of the epochs that have ended.

        Returns:
            A record for each epoch.

        Raises:
            ValueError: If the file is damaged, or does not have all epochs of a finished run.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        with naming_damaged(path, "remove the run's folder"):
            metrics = [EpochMetrics.of_json(json.loads(line)) for line in lines]
        if self.finished:
            told, trained = sum(m.num_kept for m in metrics), self.summary().num_trained
            if told != trained:
                raise ValueError(
                    f"{path} tells of {told:,} samples trained, and summary.json beside it of "
                    f"{trained:,}; restore it, or remove the run's folder"
                )
        return metrics

    def first_metrics(self, num_epochs: int) -> list[EpochMetrics]:
        """Read what is recorded of the epochs that came before a checkpoint.

        Args:
            num_epochs: How many they are.

        Returns:
            A record for each of them.

        Raises:
            ValueError: If the file is damaged, or does not have all of them.
        """
        metrics = self.metrics()
        if len(metrics) < num_epochs:
            raise ValueError(
                f"{self.path / 'metrics.jsonl'} has {len(metrics)} of the {num_epochs} epochs that came "
                "before the checkpoint; restore it, or remove the run's folder"
            )
        return metrics[:num_epochs]

    def write_metrics(self, metrics: Sequence[EpochMetrics]) -> None:
        """Write the records of all epochs.

        Args:
            metrics: A record for each epoch that has ended.
        """
        self._write("metrics.jsonl", "".join(json.dumps(finite(asdict(m))) + "\n" for m in metrics))

    def summary(self) -> Summary:
        """Read the finished run's summary.

        Returns:
            The summary.

        Raises:
            FileNotFoundError: If the run has not finished.
            ValueError: If the file is damaged.
        """
        if not self.finished:
            raise FileNotFoundError(
                f"{self.path} holds no finished run (no summary.json); finish it with "
                f"`infobatch train --out {self.path} --resume`"
            )
        path = self.path / "summary.json"
        values = read_json(path)
        with naming_damaged(path, "remove the run's folder"):
            return Summary.of_json(values)

    def write_summary(self, summary: Summary) -> None:
        """Write the summary, which marks the run as finished.

        Args:
            summary: The finished run's.
        """
        self._write("summary.json", json.dumps(finite(asdict(summary)), indent=2))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write a checkpoint over the last one.

        Args:
            state: Tensors, numbers and texts.

        Raises:
            OSError: If it cannot be written; the last one is then kept.
        """

        def write(path: Path) -> None:
            with path.open("wb") as file:  # whose errors, unlike torch's, tell the cause
                torch.save(state, file)

        write_whole(self._checkpoint_path, write)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read the checkpoint.

        Returns:
            The state, or None if there is no checkpoint.

        Raises:
            ValueError: If it cannot be read.
        """
        path = self._checkpoint_path
        return load_tensors(path, FROM_ITS_START) if path.exists() else None

    def restoring(self) -> AbstractContextManager[None]:
        """Go on from the checkpoint within this context: errors of what it holds name it.

        Raises:
            ValueError: If it does not hold what the run needs.
        """
        return naming_damaged(self._checkpoint_path, FROM_ITS_START)

    @property
    def _checkpoint_path(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def trainer_path(self) -> Path:
        """Where the Hugging Face Trainer keeps its checkpoints."""
        return self.path / "trainer"

    def drop_checkpoint(self) -> None:
        """Remove the checkpoints, and what a killed process left half written."""
        shutil.rmtree(self.trainer_path, ignore_errors=True)
        for path in (self._checkpoint_path, *self.path.glob(f"*{PART}")):
            path.unlink(missing_ok=True)

    def save_static_scores(self, scores: torch.Tensor, seconds: float) -> None:
        """Write the scores that a static policy goes by.

        Args:
            scores: (N,).
            seconds: The time that making them took.
        """

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, scores=scores.numpy(), seconds=seconds)

        write_whole(self.path / "static-scores.npz", write)

    def load_static_scores(self) -> tuple[torch.Tensor, float] | None:
        """Read the scores that a static policy goes by.

        Returns:
            The scores (N,) and the seconds that making them took, or None if there are none.

        Raises:
            ValueError: If the file is damaged.
        """
        path = self.path / "static-scores.npz"
        if not path.exists():
            return None
        with naming_damaged(path, "remove it to make them anew"), path.open("rb") as file:
            saved = np.load(file, allow_pickle=False)
            return torch.from_numpy(saved["scores"]), float(saved["seconds"])

    def save_model(self, model: torch.nn.Module) -> None:
        """Write the trained model.

        Args:
            model: The model.
        """
        from safetensors.torch import save_file

        tensors = {name: t.contiguous() for name, t in saved_tensors(model).items()}
        write_whole(self.path / "model.safetensors", lambda path: save_file(tensors, path))

    def load_model(self, model: torch.nn.Module) -> None:
        """Load the trained model's weights.

        Args:
            model: A model like it, which takes the weights.

        Raises:
            ValueError: If the file holds another model, or is damaged.
        """
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
        """Read the scores.

        Returns:
            The columns by name, (N,) each.
        """
        with np.load(self.scores_path, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}

    @property
    def scores_path(self) -> Path:
        """The file with the scores."""
        return self.path / "scores.npz"

    @property
    def dynamics_path(self) -> Path:
        """The folder of the recorded epochs."""
        return self.path / "dynamics"

    def _write(self, name: str, text: str) -> None:
        write_whole(self.path / name, lambda path: path.write_text(text))


def saved_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Choose what is kept of a trained model: all of it or, with adapters (PEFT), what was trained.

    Args:
        model: The model.

    Returns:
        Tensors by name; weights that are used twice are kept under their first name.
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
