"""Trainers of transformers: with pruning, and the stock one on the order of an unpruned epoch."""

import numpy as np
from transformers import Trainer, TrainerCallback, TrainingArguments

from helpers.language import FullOrder, causal_model, pad, sentences
from infobatch import InfoBatch, NoPruning
from infobatch.integrations.transformers import INDICES, PruningTrainer

NOTHING = {"policy": NoPruning()}
VARYING = {"policy": InfoBatch(0.9), "warmup_epochs": 1, "delta": 1}
SMALLER = {**VARYING, "shrink": "batches"}
SIZES = {"policy": InfoBatch(0.9), "target": [10, 26, 34, 10]}  # 40, 24, 16, 40 of 50 samples


class Notes(TrainerCallback):
    """Learning rates, positions and left-over gradients, as a run goes on."""

    def __init__(self):
        self.rates, self.positions, self.left_over = [], [], []

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        self.left_over.append(any(bool(g.any()) for g in gradients))

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_step_end(self, args, state, control, **kwargs):
        self.positions.append(state.epoch)


class Watched(PruningTrainer):
    """Notes each batch's samples, and the progress before it."""

    def training_step(self, model, inputs, *args, **kwargs):
        self.__dict__.setdefault("begun", []).append(self.progress)
        self.__dict__.setdefault("seen", []).append(inputs[INDICES].tolist())
        return super().training_step(model, inputs, *args, **kwargs)


class Stock(Trainer):
    """The stock Trainer, with the order of the pruner's epochs."""

    def _get_train_sampler(self, dataset=None):
        return FullOrder(len(self.train_dataset), self.args.seed)


def trainer(folder, kind=Watched, model=None, data=None, collate=pad, pruning=None, **arguments):
    arguments = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "learning_rate": 0.1,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        **arguments,
    }
    options = {} if pruning is None else {"pruning": pruning}
    made = kind(
        model=causal_model() if model is None else model,
        args=TrainingArguments(output_dir=str(folder), **arguments),
        train_dataset=sentences() if data is None else data,
        data_collator=collate,
        callbacks=[notes := Notes()],
        **options,
    )
    made.notes = notes
    return made


def batch_counts(made):
    """Batches of each epoch, from the position after each update."""
    ends = np.array(made.notes.positions)
    return [int(((ends > epoch) & (ends <= epoch + 1)).sum()) for epoch in range(int(ends[-1]))]
