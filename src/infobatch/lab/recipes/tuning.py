"""Instruction tuning: small models from scratch, and the paper's LLaMA-7B with adapters."""

from __future__ import annotations

from infobatch.lab.config.task_options import TuningOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.recipes.base import recipe


@recipe()
def bbh_llama_tiny() -> TrainConfig:
    """2,000 questions of BIG-Bench Hard, a LLaMA of three layers from scratch, 6 epochs.

    1,910 of them fit into 320 tokens. Three to six minutes a run on one core; the set has to be in
    --data-dir. The model learns the form of each task's answers and little about the questions, so
    compare the loss, and compare exact matches with those of each task's most frequent answer. On
    held-out rows, with 300 other rows and 4 epochs, 8e-3 is the best peak learning rate among 3e-3, 8e-3
    and 2e-2; this run has ten times as many steps and a somewhat lower rate.
    """
    return TrainConfig(
        task="tuning",
        data="bbh",
        train_samples=2000,
        model="llama-tiny",
        epochs=6,
        batch_size=16,
        optimizer="adamw",
        lr=5e-3,
        weight_decay=0.01,
        label_smoothing=0.0,
        clip_norm=1.0,
        eval_every=6,
        tuning=TuningOptions(max_length=320, skip_bad=True, num_generated=200),
    )


@recipe(needs_gpu=True)
def bbh_llama_small() -> TrainConfig:
    """BIG-Bench Hard as instructions, a LLaMA of 8 layers and width 512 from scratch, 30 epochs.

    Meant for ten minutes a run on a GPU, and not yet measured; the set has to be in --data-dir.
    """
    return TrainConfig(
        task="tuning",
        data="bbh",
        model="llama-small",
        epochs=30,
        batch_size=64,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.1,
        label_smoothing=0.0,
        clip_norm=1.0,
        eval_every=10,
        precision="bf16",
        tuning=TuningOptions(max_length=768, skip_bad=True, num_generated=651),
    )


@recipe(needs_gpu=True)
def alpaca_llama_lora() -> TrainConfig:
    """Alpaca, 52,000 instructions, LLaMA-7B with LoRA of rank 16, 3 epochs; give --model, its folder.

    InfoBatch (ICLR 2024), instruction tuning: LoRA of rank 16, learning rate 1.5e-4, batch 64, delta
    0.875, and 15 epochs on 1,000 instructions (--train-samples 1000 --epochs 15). The paper does not
    give the number of epochs on all of them, the optimizer, its weight decay and schedule, the scale and
    places of the adapters, and the longest text. Chosen here: 3 epochs, AdamW without decay, the
    one-cycle schedule, alpha 16, all linear layers, 512 tokens. Of three epochs, one is pruned;
    --prior-scores pass --warmup-epochs 0 makes it two.
    """
    return TrainConfig(
        task="tuning",
        data="alpaca",
        model="",
        epochs=3,
        batch_size=64,
        optimizer="adamw",
        lr=1.5e-4,
        weight_decay=0.0,
        label_smoothing=0.0,
        eval_every=3,
        precision="bf16",
        policy="infobatch",
        tuning=TuningOptions(
            max_length=512,
            skip_bad=True,
            num_generated=0,
            lora_rank=16,
            lora_alpha=16,
            micro_batch=8,
        ),
    )
