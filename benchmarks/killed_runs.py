"""The runs that killed.py kills: each goes on from the last checkpoint in its folder, to its end.

Parameters, scores and schedule at the end are given back as states. All are small, so that a kill costs
little more than a start; they save after every step, or every second or third.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, get_worker_info

from infobatch import DynamicPruner, InfoBatch, Sharded
from infobatch.streams import StreamFilter

SIZE, EPOCHS, BATCH, CLASSES = 400, 5, 16, 5
PRUNING = {"policy": InfoBatch(0.7), "delta": 1.0, "seed": 7}
LAST = "last"

State = dict[str, Any]


@dataclass
class Place:
    """Where a process of a run is: its folder, its rank, and whom it tells that training begins.

    Args:
        folder: Holds the run's checkpoints.
        begin: Called when training begins.
        saves: Whether checkpoints are written.
        rank: Number of the process.
        num_ranks: How many there are.
        start: How often the run was started before.
    """

    folder: Path
    begin: Callable[[], None]
    saves: bool = True
    rank: int = 0
    num_ranks: int = 1
    start: int = 0


def points() -> TensorDataset:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(SIZE, 12, generator=generator)
    noise = torch.randn(SIZE, CLASSES, generator=generator)
    return TensorDataset(inputs, (inputs[:, :CLASSES] + 0.5 * noise).argmax(1))


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, CLASSES))


# -- Loops of one's own ----------------------------------------------------------------------------


class Loop:
    """What a loop trains, with checkpoints that count once the file ``last`` names them.

    Args:
        pruner: The run's pruner, whose loader has been made.
        place: Where this process is.
    """

    def __init__(self, pruner: DynamicPruner, place: Place) -> None:
        self.pruner, self.place, self.num_steps = pruner, place, 0
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.9)
        schedule = OneCycleLR(self.optimizer, 0.1, total_steps=pruner.full_steps)
        self.scheduler = pruner.lr_scheduler(schedule)
        self.parts: dict[str, Any] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "pruner": pruner,
        }

    def train(
        self,
        loader: Iterable[Any],
        losses_of: Callable[[nn.Module, Any], Tensor],
        update: Callable[[Tensor, Any], Tensor],
    ) -> State:
        self._load()
        ranks = self.place.num_ranks
        model = nn.parallel.DistributedDataParallel(self.model) if ranks > 1 else self.model
        self.place.begin()
        for _ in self.pruner.epochs():
            for batch in loader:
                update(losses_of(model, batch), batch).backward()
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
                self.num_steps += 1
                if self.place.saves:
                    self._save()
        return {"num_steps": self.num_steps, **self._states()}

    def _states(self) -> State:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def _path(self, number: int) -> Path:
        return self.place.folder / f"{number}.{self.place.rank}.pt"

    def _save(self) -> None:
        """Each rank writes its part; the checkpoint is whole when ``last`` names it."""
        part = self._path(self.num_steps)
        torch.save(self._states(), part)
        if self.place.num_ranks > 1:
            dist.barrier()
        if self.place.rank == 0:
            new = self.place.folder / f"{LAST}.new"
            new.write_text(str(self.num_steps))
            os.replace(new, self.place.folder / LAST)
        if self.place.num_ranks > 1:
            dist.barrier()
        self._path(self.num_steps - 1).unlink(missing_ok=True)

    def _load(self) -> None:
        last = self.place.folder / LAST
        if last.exists():
            self.num_steps = int(last.read_text())
            for name, state in torch.load(self._path(self.num_steps), weights_only=True).items():
                self.parts[name].load_state_dict(state)


def _losses(model: nn.Module, batch: Any) -> Tensor:
    _, (inputs, labels) = batch
    return F.cross_entropy(model(inputs), labels, reduction="none")


def plain(place: Place) -> State:
    pruner = DynamicPruner(points(), EPOCHS, **PRUNING)
    loader = pruner.loader(BATCH, num_workers=2)
    return Loop(pruner, place).train(loader, _losses, lambda losses, b: pruner.update(losses, b[0]))


def _ranks(place: Place, **options: Any) -> State:
    store = f"file://{place.folder}/store-{place.start}"
    dist.init_process_group("gloo", init_method=store, rank=place.rank, world_size=place.num_ranks)
    pruner = DynamicPruner(points(), EPOCHS, **PRUNING, **options)
    loader = pruner.loader(BATCH // place.num_ranks)
    end = Loop(pruner, place).train(loader, _losses, lambda losses, b: pruner.update(losses, b[0]))
    dist.barrier()
    dist.destroy_process_group()
    return end


def replicated(place: Place) -> State:
    return _ranks(place)


def sharded(place: Place) -> State:
    return _ranks(place, layout=Sharded())


class Shards(IterableDataset[dict[str, Any]]):
    """The points, in shards that workers share out; each epoch has another order within them."""

    def __init__(self) -> None:
        self.inputs, self.labels = points().tensors
        self.epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        generator = torch.Generator().manual_seed(int(self.epoch))
        for shard in torch.randperm(SIZE, generator=generator).chunk(5)[first::step]:
            for index in shard.tolist():
                yield {"id": index, "inputs": self.inputs[index], "labels": self.labels[index]}


def stream(place: Place) -> State:
    pruner = DynamicPruner(range(SIZE), EPOCHS, **PRUNING)
    keep = StreamFilter(pruner, "id", BATCH)
    loader = DataLoader(keep(Shards()), BATCH, num_workers=1)

    def losses_of(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch["inputs"]), batch["labels"], reduction="none")

    return Loop(pruner, place).train(
        loader, losses_of, lambda losses, batch: keep.update(losses, batch[keep.entry])
    )


# -- Loops of frameworks ---------------------------------------------------------------------------


def transformers(place: Place) -> State:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        PrinterCallback,
        TrainerCallback,
        TrainingArguments,
    )

    from infobatch.integrations.transformers import PruningTrainer

    class Begins(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            place.begin()

    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, 29, (120, 8), generator=generator)
    data = [{"input_ids": row, "labels": row} for row in tokens]
    torch.manual_seed(1)
    config = GPT2Config(
        **{"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 8, "vocab_size": 29},
        bos_token_id=None,
        eos_token_id=None,
    )
    arguments = TrainingArguments(
        output_dir=str(place.folder),
        per_device_train_batch_size=4,
        num_train_epochs=3,
        learning_rate=0.01,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="steps" if place.saves else "no",
        save_steps=3,
        save_total_limit=2,
        dataloader_pin_memory=False,
    )
    model = GPT2LMHeadModel(config)
    pruning = {**PRUNING, "policy": InfoBatch(0.9)}
    trainer = PruningTrainer(
        model=model, args=arguments, train_dataset=data, pruning=pruning, callbacks=[Begins()]
    )
    trainer.remove_callback(PrinterCallback)
    whole = whole_trainer_checkpoints(place.folder)
    trainer.train(resume_from_checkpoint=str(whole[-1]) if whole else None)
    return {
        "model": model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.lr_scheduler.state_dict(),
        "pruner": trainer.pruner.state_dict(),
        "num_steps": trainer.state.global_step,
    }


def whole_trainer_checkpoints(folder: Path) -> list[Path]:
    """Those that were written to their end, which is the state of the Trainer, the oldest first."""
    whole = []
    for path in sorted(folder.glob("checkpoint-*"), key=lambda each: int(each.name.split("-")[1])):
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        whole.append(path)
    return whole


def lightning(place: Place) -> State:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    from infobatch.integrations.lightning import PruningCallback

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            indices, (inputs, labels) = batch
            losses = F.cross_entropy(self.layers(inputs), labels, reduction="none")
            return self.pruner.update(losses, indices)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)
            schedule = OneCycleLR(optimizer, 0.1, total_steps=self.pruner.full_steps)
            scheduler = {"scheduler": self.pruner.lr_scheduler(schedule), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

        def on_train_start(self) -> None:
            place.begin()

    (place.folder / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = str(place.folder / "tmp")  # where a file is before it is whole
    pruning = PruningCallback(**PRUNING)
    callbacks: list[Any] = [pruning]
    if place.saves:
        callbacks.append(ModelCheckpoint(place.folder, "{step}", every_n_train_steps=2))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        callbacks=callbacks,
        enable_checkpointing=place.saves,
        default_root_dir=place.folder,
        **quiet,
    )
    module = Module()
    found = sorted(place.folder.glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
    loader = pruning.loader(points(), BATCH)
    trainer.fit(module, loader, ckpt_path=str(found[-1]) if found else None)
    return {
        "model": module.layers.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        "pruner": pruning.pruner.state_dict(),
        "num_steps": trainer.global_step,
    }


# -- All of them -----------------------------------------------------------------------------------


def _loop_is_writing(folder: Path) -> bool:
    last = folder / LAST
    number = int(last.read_text()) if last.exists() else 0
    newest = max((int(path.name.split(".")[0]) for path in folder.glob("*.pt")), default=0)
    return newest > number or (folder / f"{LAST}.new").exists()


def _trainer_is_writing(folder: Path) -> bool:
    return len(list(folder.glob("checkpoint-*"))) > len(whole_trainer_checkpoints(folder))


@dataclass(frozen=True)
class SetUp:
    """A kind of run.

    Args:
        run: Trains it.
        title: What it is.
        saved: Whether a folder holds a whole checkpoint.
        is_writing: Whether a process that was killed left a checkpoint half written.
        num_ranks: How many processes it has.
    """

    run: Callable[[Place], State]
    title: str
    saved: Callable[[Path], bool] = lambda folder: (folder / LAST).exists()
    is_writing: Callable[[Path], bool] = _loop_is_writing
    num_ranks: int = 1


SET_UPS = {
    "plain": SetUp(plain, "a loop of one's own, two workers"),
    "transformers": SetUp(
        transformers,
        "the Trainer of transformers",
        lambda folder: bool(whole_trainer_checkpoints(folder)),
        _trainer_is_writing,
    ),
    "lightning": SetUp(
        lightning,
        "Lightning",
        lambda folder: any(folder.glob("*.ckpt")),
        lambda folder: any((folder / "tmp").iterdir()),
    ),
    "replicated": SetUp(replicated, "two processes, scores on each", num_ranks=2),
    "sharded": SetUp(sharded, "two processes, each with half of the scores", num_ranks=2),
    "stream": SetUp(stream, "a filtered stream, one worker"),
}
