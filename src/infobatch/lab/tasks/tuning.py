"""Instruction tuning of a causal language model: cross-entropy of the answers' tokens."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from infobatch.lab.devices import resolve_precision
from infobatch.lab.models.language import make_language_model
from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import Evaluation, Inputs, SampleOutputs, Task
from infobatch.lab.tasks.tokens import Example, TokenData, TokenFeed
from infobatch.losses import NOT_SUPERVISED, output_gradient_norms, sequence_losses
from infobatch.scores.columns import NORMS


class Tuning(Task):
    """Instruction tuning.

    Inputs are tokens and labels, int64 (B, T); the labels are -100 outside the answers. The Hugging Face
    Trainer wraps the model itself, for its ranks and its precision.
    """

    data: TokenData
    feed: TokenFeed

    def make_feed(self) -> TokenFeed:
        return TokenFeed(self.data, self.device)

    def make_model(self) -> nn.Module:
        config = self.config
        precision = resolve_precision(config.precision, self.device)
        model: nn.Module = make_language_model(
            config.model, self.data.tokenizer, config.tuning, precision
        )
        return model

    def inputs(self, batch: Any, indices: Any) -> Inputs:
        return self.feed(batch)

    def forward(self, model: nn.Module, inputs: Inputs) -> Tensor:
        logits: Tensor = model(input_ids=inputs[0], use_cache=False).logits
        return logits.float()

    def sample_outputs(self, outputs: Tensor, inputs: Inputs, signals: Sequence[str]) -> SampleOutputs:
        labels, smoothing = inputs[1], self.config.label_smoothing
        losses, read = sequence_losses(outputs, labels, label_smoothing=smoothing, shift=True), {}
        if smoothing and NORMS in signals:  # which do not follow from losses then
            read[NORMS] = output_gradient_norms(losses, outputs)
        return SampleOutputs(losses, scored=_num_supervised(labels) > 0, signals=read)

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """Evaluate a model by the mean loss of an answer's token, over all ranks together.

        Args:
            model: An average of the model's weights; by default the model itself.

        Returns:
            The evaluation, with the share of answers that it generates exactly.
        """
        model = model or self.model
        model.eval()
        num_classes, classes = max(1, self.data.num_classes), self.data.test_labels
        # Rows: tokens, the sum of their losses, samples; a column a task.
        sums = torch.zeros(3, num_classes, dtype=torch.float64, device=self.device)
        for part in self.feed.test_parts(replicas()):
            batch = self.feed(self.feed.collate([self.data.test[index] for index in part]))
            means = sequence_losses(self._forward(model, batch), batch[1], shift=True)
            counts = _num_supervised(batch[1])
            values = torch.stack([counts, counts * means, torch.ones_like(means)]).double()
            places = torch.zeros(len(part), dtype=torch.int64) if classes is None else classes[part]
            sums.index_add_(1, places.to(self.device), values)
        details = self._exact_matches(model)
        model.train()
        tokens, losses, counts = total(sums)
        loss = float(losses.sum() / tokens.sum())
        has_classes = classes is not None
        return Evaluation(
            result=loss,
            loss=loss,
            details=details,
            per_class=(losses / tokens).tolist() if has_classes else (),
            counts=counts.long().tolist() if has_classes else (),
        )

    def _exact_matches(self, model: nn.Module) -> dict[str, float]:
        """The share of the first test samples that are answered exactly, in percent.

        Answers are generated greedily, and spaces around them do not count. Beside it stands the share
        that the most frequent training answer to the same instruction would get.
        """
        num = min(self.config.tuning.num_generated, len(self.data.test))
        if num == 0:
            return {}
        usual = _usual_answers(self.data.train)
        counts = torch.zeros(2, dtype=torch.float64)
        for part in self.feed.test_parts(replicas(), num):
            examples = [self.data.test[index] for index in part]
            for example, answer in zip(examples, self._generate(model, examples), strict=True):
                expected = example.row.output.strip()
                counts[0] += answer.strip() == expected
                counts[1] += usual.get(example.row.instruction) == expected
        exact, majority = (100 * total(counts) / num).tolist()
        return {"exact match %": exact, "most frequent answer %": majority}

    def _generate(self, model: Any, examples: Sequence[Example]) -> list[str]:
        """Answer the examples' prompts, with as many tokens at most as the longest of their answers."""
        from transformers import GenerationConfig

        end = self.data.tokenizer.eos_token_id
        prompts = [torch.from_numpy(each.tokens[: each.num_prompt]).long() for each in examples]
        length = max(map(len, prompts))
        longest = max(each.num_answer for each in examples)
        context = getattr(model.config, "max_position_embeddings", None) or length + longest
        tokens = torch.full((len(prompts), length), end)
        mask = torch.zeros_like(tokens)
        for place, prompt in enumerate(prompts):
            tokens[place, length - len(prompt) :] = prompt
            mask[place, length - len(prompt) :] = 1
        with self.autocast():
            made = model.generate(
                input_ids=tokens.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=GenerationConfig(
                    max_new_tokens=min(longest, context - length),
                    do_sample=False,
                    eos_token_id=end,
                    pad_token_id=end,
                    use_cache=True,
                ),
            )
        answers: list[str] = self.data.tokenizer.batch_decode(made[:, length:], skip_special_tokens=True)
        return answers

    def _prepare(self, compiled: bool) -> nn.Module:
        """Leave the model as it is, for the Trainer wraps it."""
        self._uncompiled, self._graphs = self.model, False
        return self.model


def _num_supervised(labels: Tensor) -> Tensor:
    """The number of tokens of each sample that are trained on, (B,)."""
    return labels[:, 1:].ne(NOT_SUPERVISED).sum(1)


def _usual_answers(examples: Sequence[Example]) -> dict[str, str]:
    """The most frequent answer to each instruction; the first of several that are equally frequent."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        answers[example.row.instruction][example.row.output.strip()] += 1
    return {instruction: found.most_common(1)[0][0] for instruction, found in answers.items()}
