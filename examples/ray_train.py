"""plain_loop.py with Ray Train on two workers: the lines marked "# ray" differ."""

import tempfile  # ray

import torch
import torch.nn.functional as F
from plain_loop import BATCH_SIZE, EPOCHS, LR, accuracy, digits, make_model
from ray import train  # ray
from ray.train.torch import TorchTrainer, prepare_model  # ray

from infobatch import DynamicPruner, InfoBatch
from infobatch.integrations.ray import pruned_loader


def train_on_worker():  # ray
    train_set, _ = digits()
    network = make_model()
    model = prepare_model(network)  # ray
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    pruner = DynamicPruner(train_set, num_epochs=EPOCHS, policy=InfoBatch(prune_ratio=0.5))
    num_workers = train.get_context().get_world_size()  # ray
    loader = pruned_loader(pruner, BATCH_SIZE // num_workers)  # ray: the batch of each worker
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
    save({"pruner": pruner.state_dict(), "model": network.state_dict()})  # ray: on every worker


def save(state):  # ray
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, f"{folder}/state.pt")
        first = train.get_context().get_world_rank() == 0
        train.report({}, checkpoint=train.Checkpoint.from_directory(folder) if first else None)


def main():
    train_set, test_set = digits()
    model = make_model()
    with tempfile.TemporaryDirectory() as folder:  # ray: from here on
        trainer = TorchTrainer(
            train_on_worker,
            scaling_config=train.ScalingConfig(num_workers=2),
            run_config=train.RunConfig(storage_path=folder),
        )
        with trainer.fit().checkpoint.as_directory() as saved:
            state = torch.load(f"{saved}/state.pt", weights_only=True, map_location="cpu")
    pruner = DynamicPruner(train_set, num_epochs=EPOCHS, policy=InfoBatch(prune_ratio=0.5))
    pruner.load_state_dict(state["pruner"])
    model.load_state_dict(state["model"])
    print(pruner.report())
    print(f"test accuracy {accuracy(model, test_set):.2%}")
    return pruner, model


if __name__ == "__main__":
    main()
