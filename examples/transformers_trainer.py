"""plain_loop.py with the Trainer of transformers: the lines marked "# transformers" differ."""

import tempfile

import torch
from plain_loop import BATCH_SIZE, EPOCHS, LR, accuracy, digits, make_model
from transformers import TrainingArguments  # transformers
from transformers.modeling_outputs import SequenceClassifierOutput  # transformers

from infobatch import InfoBatch
from infobatch.integrations.transformers import PruningTrainer


class Classifier(torch.nn.Module):  # transformers: a model names its arguments and outputs
    def __init__(self):
        super().__init__()
        self.layers = make_model()

    def forward(self, images, labels=None, **kwargs):
        return SequenceClassifierOutput(logits=self.layers(images))


def main():
    train_set, test_set = digits()
    model = Classifier()
    with tempfile.TemporaryDirectory() as folder:  # transformers: from here on
        trainer = PruningTrainer(
            model=model,
            args=TrainingArguments(
                folder,
                num_train_epochs=EPOCHS,
                per_device_train_batch_size=BATCH_SIZE,
                learning_rate=LR,
                lr_scheduler_type="linear",
                optim="sgd",
                max_grad_norm=0.0,
                seed=0,
                use_cpu=True,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=[{"images": image, "labels": label} for image, label in train_set],
            pruning={"policy": InfoBatch(prune_ratio=0.5)},
        )
        trainer.train()
    print(trainer.pruner.report())
    print(f"test accuracy {accuracy(model.layers, test_set):.2%}")
    return trainer.pruner, model.layers


if __name__ == "__main__":
    main()
