"""Small sets of instructions, and language models of 16 channels to tune on them."""

import pytest

from infobatch.lab.commands import loading
from infobatch.lab.config.task_options import TuningOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.tuning import Tuning
from infobatch.lab.training.train import train

MARKS = [
    pytest.mark.integrations,
    pytest.mark.usefixtures("tiny_language_models"),
    # PEFT still calls it by its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

QUICK = TrainConfig(
    task="tuning",
    data="instructions",
    model="llama-tiny",
    epochs=4,
    batch_size=8,
    optimizer="adamw",
    lr=0.01,
    label_smoothing=0.0,
    device="cpu",
    policy="infobatch",
    tuning=TuningOptions(max_length=192, num_generated=4),
)


def rows(number, seed):
    """Sums, and words in another order: two tasks, one without an input."""
    made = []
    for place in range(number):
        a, b = (seed + 7 * place) % 9, (seed + 5 * place) % 8
        if place % 2:
            made.append({"instruction": f"Add {a} and {b}.", "output": str(a + b), "task": "sums"})
        else:
            words = {"instruction": "Turn it around.", "input": "ab" * (1 + a), "task": "turning"}
            made.append({**words, "output": "ba" * (1 + a)})
    return made


def run(config, path, data=None, **others):
    folder = RunFolder(path)
    if not folder.exists:
        folder.create(config)
    return train(config, data or loading.load(config), folder, **others)


def task_of(config):
    return Tuning(config, loading.load(config))
