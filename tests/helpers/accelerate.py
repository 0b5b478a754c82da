"""A training with Accelerate, which stops after a number of updates, or goes on from there."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from helpers.language import parameters
from helpers.points import new_layers, points
from infobatch import DynamicPruner, InfoBatch
from infobatch.integrations.accelerate import pruned_loader

BATCH = 4


def new_pruner(policy=None, **options):
    return DynamicPruner(points(), num_epochs=4, policy=policy or InfoBatch(0.9), delta=1, **options)


class Run:
    """A training with Accelerate; stops after a number of updates, or goes on from there."""

    def __init__(self, num_accumulated=1, policy=None, smoothing=0.0, shrink=None, **options):
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=num_accumulated)
        self.pruner = new_pruner(policy, shrink=shrink)
        self.loader = pruned_loader(self.accelerator, self.pruner, BATCH, **options)
        model = new_layers()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, self.pruner.full_steps)
        self.schedule = self.pruner.lr_scheduler(schedule)
        self.accelerator.register_for_checkpointing(self.schedule)
        self.smoothing = smoothing
        self.seen, self.num_updates = [], 0

    def train(self, num_updates=None, folder=None):
        for _ in self.pruner.epochs():
            for indices, (inputs, labels) in self.loader:
                with self.accelerator.accumulate(self.model):
                    losses = F.cross_entropy(
                        self.model(inputs), labels, reduction="none", label_smoothing=self.smoothing
                    )
                    self.accelerator.backward(self.pruner.update(losses, indices))
                    self.seen.append(indices.tolist())
                    self.optimizer.step()
                    if self.accelerator.sync_gradients:
                        self.schedule.step()
                    self.optimizer.zero_grad()
                self.num_updates += self.accelerator.sync_gradients
                if self.accelerator.sync_gradients and self.num_updates == num_updates:
                    self.accelerator.save_state(folder)
                    return self
        return self

    @property
    def parameters(self):
        return parameters(self.accelerator.unwrap_model(self.model))
