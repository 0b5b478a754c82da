"""A training script of a user's."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import TensorDataset

pixels, classes = (torch.tensor(values) for values in load_digits(return_X_y=True))
pixels = pixels.float() / 16
train_set = TensorDataset(pixels[:600], classes[:600])


def train(run):
    torch.manual_seed(run.seed)
    model = torch.nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, momentum=0.9)
    pruner = run.pruner(train_set, labels=classes[:600])
    loader = pruner.loader(run.batch_size)
    schedule = pruner.lr_scheduler(OneCycleLR(optimizer, run.lr, total_steps=pruner.full_steps))
    for _ in pruner.epochs():
        for indices, (x, y) in loader:
            losses = F.cross_entropy(model(x), y, reduction="none")
            pruner.update(losses, indices).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    correct = model(pixels[1200:]).argmax(1) == classes[1200:]
    return 100 * correct.float().mean()
