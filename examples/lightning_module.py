"""plain_loop.py with Lightning: the lines marked "# lightning" differ."""

import lightning as L  # lightning
import torch
import torch.nn.functional as F
from plain_loop import BATCH_SIZE, EPOCHS, LR, accuracy, digits, make_model

from infobatch import InfoBatch
from infobatch.integrations.lightning import PruningCallback


class Classifier(L.LightningModule):  # lightning
    def __init__(self):
        super().__init__()
        self.model = make_model()

    def training_step(self, batch, batch_idx):
        indices, (images, labels) = batch
        losses = F.cross_entropy(self.model(images), labels, reduction="none")
        return self.pruner.update(losses, indices)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=LR)
        steps = self.pruner.full_steps
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        scheduler = self.pruner.lr_scheduler(schedule)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]  # lightning


def main():
    train_set, test_set = digits()
    module = Classifier()
    pruning = PruningCallback(policy=InfoBatch(prune_ratio=0.5))  # lightning: from here on
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        callbacks=[pruning],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, pruning.loader(train_set, BATCH_SIZE))
    print(pruning.pruner.report())
    print(f"test accuracy {accuracy(module.model, test_set):.2%}")
    return pruning.pruner, module.model


if __name__ == "__main__":
    main()
