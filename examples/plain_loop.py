"""A training loop with pruning: handwritten digits, in seconds on a CPU. Run: python plain_loop.py"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from infobatch import DynamicPruner, InfoBatch

EPOCHS, BATCH_SIZE, LR = 12, 64, 1.0


def digits():
    """Return 1,797 images of 8 x 8 pixels: every fifth for the test, the others for training."""
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    test = torch.arange(len(labels)) % 5 == 0
    return TensorDataset(images[~test], labels[~test]), TensorDataset(images[test], labels[test])


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


def accuracy(model, test_set):
    images, labels = test_set.tensors
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def main():
    train_set, test_set = digits()
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    # The paper's rule; without a policy it is a budget of noise, and batches get smaller.
    pruner = DynamicPruner(train_set, num_epochs=EPOCHS, policy=InfoBatch(prune_ratio=0.5))
    loader = pruner.loader(BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=pruner.full_steps)
    scheduler = pruner.lr_scheduler(schedule)
    for _ in pruner.epochs():
        for indices, (images, labels) in loader:
            losses = F.cross_entropy(model(images), labels, reduction="none")
            loss = pruner.update(losses, indices)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    print(pruner.report())
    print(f"test accuracy {accuracy(model, test_set):.2%}")
    return pruner, model


if __name__ == "__main__":
    main()
