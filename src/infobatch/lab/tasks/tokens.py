"""Instructions as tokens: the prompt, which is given, and the answer, which is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.distributed import Replicas
from infobatch.lab.config.task_options import TuningOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data, Feed
from infobatch.lab.data.feed import pair_on
from infobatch.lab.data.instructions import InstructionData, Row
from infobatch.lab.models.language import context_of, make_tokenizer
from infobatch.losses import NOT_SUPERVISED

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
"""The prompts of Taori et al., *Stanford Alpaca* (2023)."""


def prompt_of(row: Row) -> str:
    """Write the prompt of an instruction.

    Args:
        row: The instruction, with its input if it has one.

    Returns:
        The text that an answer follows.

    Source: Taori et al., *Stanford Alpaca* (2023).
    """
    template = WITH_INPUT if row.input else WITHOUT_INPUT
    return template.format(instruction=row.instruction, input=row.input)


@dataclass(frozen=True)
class Example:
    """An instruction as tokens.

    Args:
        tokens: The prompt, the answer and its end, cut off at the longest that is trained, int32 (T,).
        num_prompt: The number of tokens of the prompt.
        row: The instruction that it was made of.
    """

    tokens: np.ndarray
    num_prompt: int
    row: Row

    @property
    def num_answer(self) -> int:
        """The number of tokens that are trained on."""
        return len(self.tokens) - self.num_prompt


@dataclass(frozen=True)
class TokenData(Data):
    """Instructions as tokens; ``train`` and ``test`` are tuples of examples.

    Args:
        tokenizer: The model's tokenizer.
        labels: The task of each training sample and of each test sample, int64 (n,); None without tasks.
        left_out: A sentence for each reason for which rows are left out.
    """

    tokenizer: Any
    labels: tuple[Tensor, Tensor] | None
    left_out: tuple[str, ...]

    @property
    def train_labels(self) -> Tensor | None:
        """The task of each training sample, int64 (N,); None without tasks."""
        return None if self.labels is None else self.labels[0]

    @property
    def test_labels(self) -> Tensor | None:
        """The task of each test sample, int64 (n,); None without tasks."""
        return None if self.labels is None else self.labels[1]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and why."""
        return self.left_out

    @property
    def num_train_tokens(self) -> int:
        """The number of tokens that an epoch on all data trains on."""
        return sum(example.num_answer for example in self.train)

    def subset(self, train: Tensor, test: Tensor | None = None) -> TokenData:
        raise NotImplementedError("rows are chosen before they are made tokens: see tokenize")


def tokenize(config: TrainConfig, data: Data) -> TokenData:
    """Make tokens of instructions, by the tokenizer of the run's model.

    Args:
        config: The run's options.
        data: Instructions.

    Returns:
        The examples to train and to test on.

    Raises:
        ValueError: For a length that the model cannot take, and for rows that leave nothing to train on,
            unless --tuning.skip-bad leaves them out.
    """
    assert isinstance(data, InstructionData)
    options = config.tuning
    context = context_of(config.model)
    if context is not None and options.max_length > context:
        raise ValueError(
            f"--tuning.max-length is {options.max_length:,}, but {config.model} takes {context:,} "
            "tokens at most; lower it"
        )
    tokenizer = make_tokenizer(config.model, (prompt_of(row) + row.output for row in data.train))
    found, left_out = [], []
    for split, rows in (("training", data.train), ("test", data.test)):
        examples, bad = _examples(rows, tokenizer, options)
        found.append(examples)
        left_out += [
            f"{count:,} of {len(rows):,} {split} rows are left out: {reason}"
            for reason, count in bad.items()
        ]
        if not examples:
            raise ValueError(
                f"{data.name} has no {split} rows of which anything is learned; give others"
            )
    train, test = (tuple(examples.values()) for examples in found)
    labels = [data.tasks_of(tuple(example.row for example in split)) for split in (train, test)]
    is_part = len(train) < len(data.train)
    has_tasks = labels[0] is not None and labels[1] is not None
    return TokenData(
        name=data.name,
        train=train,
        test=test,
        class_names=data.class_names,
        tokenizer=tokenizer,
        labels=(labels[0], labels[1]) if has_tasks else None,  # type: ignore[arg-type]
        left_out=tuple(left_out),
        origin=data.origin_of(torch.tensor([*found[0]])) if is_part else data.origin,
    )


def _examples(
    rows: Sequence[Row], tokenizer: Any, options: TuningOptions
) -> tuple[dict[int, Example], Counter[str]]:
    """The rows that can be trained on by their indices, and the number of the others by reason."""
    left_out: Counter[str] = Counter()
    if not rows:
        return {}, left_out
    end = tokenizer.eos_token_id
    prompts = tokenizer([prompt_of(row) for row in rows], return_attention_mask=False)["input_ids"]
    answers = tokenizer(
        [row.output for row in rows], add_special_tokens=False, return_attention_mask=False
    )["input_ids"]
    examples = {}
    for index, (row, prompt, answer) in enumerate(zip(rows, prompts, answers, strict=True)):
        prompt = prompt[:-1] if prompt[-1] == end else prompt  # which some tokenizers add
        reason = ""
        if not row.output.strip():
            reason = "the output is empty"
        elif len(prompt) >= options.max_length:
            reason = f"the prompt alone fills --tuning.max-length {options.max_length}"
        if reason and not options.skip_bad:
            raise ValueError(
                f"{row.place}: {reason} ({len(prompt):,} tokens of prompt), so that nothing is learned "
                "of it; mend it, or give --tuning.skip-bad to leave out such rows"
            )
        if reason:
            left_out[reason] += 1
            continue
        tokens = np.array([*prompt, *answer, end][: options.max_length], np.int32)
        examples[index] = Example(tokens, len(prompt), row)
    return examples, left_out


@dataclass(frozen=True)
class Padding:
    """Makes a batch of examples: ``input_ids`` and ``labels``, int64 (B, T), as long as the longest.

    There is no mask, for in a causal model what follows a sample's end cannot reach it.

    Args:
        token: The token that fills up shorter samples.
    """

    token: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        shape = (len(examples), max(len(example.tokens) for example in examples))
        tokens = torch.full(shape, self.token)
        labels = torch.full(shape, NOT_SUPERVISED)
        for place, example in enumerate(examples):
            row = torch.from_numpy(example.tokens).long()
            tokens[place, : len(row)] = row
            labels[place, example.num_prompt : len(row)] = row[example.num_prompt :]
        return {"input_ids": tokens, "labels": labels}


class TokenFeed(Feed):
    """A feed of examples, which the loader pads; a batch is ``tokens`` and ``labels``, int64 (B, T).

    Args:
        data: The examples.
        device: Where the batches go.
    """

    TEST_TOKENS = 16384
    """The most tokens of a test batch, padding included."""

    def __init__(self, data: TokenData, device: torch.device) -> None:
        self.dataset = data.train
        self.collate = Padding(data.tokenizer.eos_token_id)
        self._test = data.test
        self._device = device

    def __call__(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return pair_on(self._device, batch["input_ids"], batch["labels"])

    def test_parts(self, replicas: Replicas, num: int | None = None) -> Iterator[list[int]]:
        """Share out the test samples in batches of similar length, each once over all ranks together.

        Args:
            replicas: This process's place among the ranks.
            num: How many of the first test samples; by default all.

        Returns:
            The indices of each of this rank's batches.
        """
        lengths = [len(example.tokens) for example in self._test[:num]]
        share = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
        share = share[replicas.rank :: replicas.num_replicas]
        while share:
            size = max(1, self.TEST_TOKENS // lengths[share[0]])
            yield share[:size]
            share = share[size:]
