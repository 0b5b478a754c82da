"""plain_loop.py with Accelerate: the lines marked "# accelerate" differ."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator  # accelerate
from plain_loop import BATCH_SIZE, EPOCHS, LR, accuracy, digits, make_model

from infobatch import DynamicPruner, InfoBatch
from infobatch.integrations.accelerate import pruned_loader


def main():
    accelerator = Accelerator(cpu=True)  # accelerate: before the pruner; leave cpu=True out on a GPU
    train_set, test_set = digits()
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    pruner = DynamicPruner(train_set, num_epochs=EPOCHS, policy=InfoBatch(prune_ratio=0.5))
    loader = pruned_loader(accelerator, pruner, BATCH_SIZE)  # accelerate
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=pruner.full_steps)
    scheduler = pruner.lr_scheduler(schedule)
    model, optimizer = accelerator.prepare(model, optimizer)  # accelerate: not the scheduler
    for _ in pruner.epochs():
        for indices, (images, labels) in loader:
            losses = F.cross_entropy(model(images), labels, reduction="none")
            loss = pruner.update(losses, indices)
            accelerator.backward(loss)  # accelerate
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    accelerator.print(pruner.report())  # accelerate
    accelerator.print(f"test accuracy {accuracy(model, test_set):.2%}")  # accelerate
    return pruner, accelerator.unwrap_model(model)  # accelerate


if __name__ == "__main__":
    main()
