"""plain_loop.py on several ranks: the lines marked "# ddp" differ.

Run: torchrun --nproc-per-node 2 ddp.py. It uses GPUs where there are any. With --fsdp the parameters
are sharded too, by FSDP2, which needs torch 2.6 or later.
"""

import os  # ddp
import sys  # ddp

import torch
import torch.distributed as dist  # ddp
import torch.nn.functional as F
from plain_loop import BATCH_SIZE, EPOCHS, LR, accuracy, digits, make_model
from torch.nn.parallel import DistributedDataParallel  # ddp
from torch.utils.data import TensorDataset  # ddp

from infobatch import DynamicPruner, InfoBatch


def begin():  # ddp
    """Join the other ranks and return this rank's device."""
    if not torch.cuda.is_available():
        dist.init_process_group("gloo")
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    return torch.device("cuda")


def spread(model, fsdp):  # ddp
    """Give each rank a copy of the model, or with FSDP2 a part of it."""
    if not fsdp:
        return DistributedDataParallel(model)
    from torch.distributed.fsdp import fully_shard

    for layer in model:
        fully_shard(layer)
    return fully_shard(model)


def main(fsdp=False):
    device = begin()  # ddp: before the pruner
    train_set, test_set = digits()
    test_set = TensorDataset(*(values.to(device) for values in test_set.tensors))  # ddp
    model = spread(make_model().to(device), fsdp)  # ddp: before the optimizer
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    pruner = DynamicPruner(train_set, num_epochs=EPOCHS, policy=InfoBatch(prune_ratio=0.5))
    loader = pruner.loader(BATCH_SIZE // dist.get_world_size())  # ddp: the batch of each rank
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=pruner.full_steps)
    scheduler = pruner.lr_scheduler(schedule)
    for _ in pruner.epochs():
        for indices, (images, labels) in loader:
            images, labels = images.to(device), labels.to(device)  # ddp
            losses = F.cross_entropy(model(images), labels, reduction="none")
            loss = pruner.update(losses, indices)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    reached = accuracy(model, test_set)  # ddp: every rank evaluates
    if dist.get_rank() == 0:  # ddp
        print(pruner.report())
        print(f"test accuracy {reached:.2%}")
    return pruner, model


if __name__ == "__main__":
    main(fsdp="--fsdp" in sys.argv)
    dist.destroy_process_group()  # ddp
