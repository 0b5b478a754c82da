"""TRL's trainers with pruning: prompts selected by the spread of their rewards, advantages weighted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from infobatch.integrations.transformers.batches import INDICES
from infobatch.integrations.transformers.epochs import PrunedEpochs, read_state
from infobatch.integrations.transformers.installed import PREFIX_CHECKPOINT_DIR
from infobatch.integrations.trl.groups import (
    GroupSampler,
    IndexedRows,
    have_spread,
    spreads,
    without_indices,
)
from infobatch.integrations.trl.installed import GRPOTrainer, RLOOTrainer
from infobatch.integrations.trl.refusals import (
    check_ends_with_a_generation,
    check_rows,
    check_trainer,
)
from infobatch.policies import NoiseBudget
from infobatch.pruner import DynamicPruner


class GRPOPruningMixin(PrunedEpochs):
    """Gives a GRPOTrainer or RLOOTrainer pruning: ``class Mine(GRPOPruningMixin, MyGRPOTrainer)``.

    Prompts are the samples. The score of each is the root mean square of its group's advantages, 0 where
    all its completions have one reward. Each process keeps the scores of all prompts.

    Args:
        *args: The trainer's own arguments.
        pruning: Options of :class:`DynamicPruner`, such as ``policy``, ``target`` or ``warmup_epochs``.
            The run's length and, unless it is given, the seed are those of the trainer's arguments,
            whose ``max_steps`` counts steps of full data; pruning makes the run end after fewer.
        **kwargs: The trainer's own keyword arguments.

    Raises:
        ValueError: For arguments that do not go together with pruning; each with the remedy.
        TypeError: If ``pruning`` is a policy in place of a mapping of options, or prompts are a stream.
    """

    _step: int
    _buffered_inputs: list[Any] | None

    def __init__(self, *args: Any, pruning: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, pruning=pruning, **kwargs)
        check_trainer(self, self.pruning)
        self._num_trained = 0  # batches of the epoch
        self._have_spread: Tensor | None = None  # of the groups of the latest generation

    # -- What TRL and the Trainer call ---------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._step, self._num_trained, self._buffered_inputs = 0, 0, None
        return super().train(*args, **kwargs)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if INDICES not in self._signature_columns:
            self._signature_columns.append(INDICES)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Generations of the selected prompts, which Accelerate shares out among the processes."""
        loader: DataLoader[Any] = self._get_dataloader(
            dataset=IndexedRows(self.train_dataset),
            description="Training",
            batch_size=self._train_batch_size * self.args.steps_per_generation,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )
        return loader

    def _get_train_sampler(self, dataset: Any = None) -> GroupSampler:
        size = self._num_prompts
        prompts = self.pruner.sampler(size, drop_last=True, resumes=False)
        return GroupSampler(prompts, size, self.num_generations, self._num_repeats)

    def _run_epoch(self, *, epoch: int, **kwargs: Any) -> Any:
        resumed = epoch == kwargs["epochs_trained"]
        self._num_trained = kwargs["steps_trained_in_current_epoch"] if resumed else 0
        return super()._run_epoch(epoch=epoch, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        self._num_trained += 1
        return loss

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(*args, **kwargs)
        if self.model.training:
            self._have_spread = have_spread(rewards, self.num_generations)
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """Completions whose advantages are weighted; the spreads of their groups are recorded."""
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        check_rows(inputs, self)
        rows, own = without_indices(inputs)
        outputs = super()._generate_and_score_completions(rows)
        # A group may be spread over processes, and each process records all groups.
        advantages = outputs["advantages"]
        indices = torch.tensor(own, device=advantages.device)
        indices, advantages = self.accelerator.gather((indices, advantages))
        groups = indices.view(-1, self.num_generations)[:, 0].cpu()
        scores = spreads(advantages, self.num_generations)
        self.pruner.record(scores, groups, scored=self._have_spread, gradient_norms=scores)
        return self._weighted(outputs, own)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not self.args.save_only_model:
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            path = self._generation_file(Path(self._get_output_dir(trial=trial)) / name)
            if self._num_trained % self._num_repeats:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save({"trained": self._num_trained, "batches": self._buffered_inputs}, path)
            else:
                path.unlink(missing_ok=True)  # of an earlier run in this folder
        super()._save_checkpoint(model, trial)

    # -- Inside ------------------------------------------------------------------------------------

    @property
    def _num_prompts(self) -> int:
        """The prompts of a generation, on all processes."""
        return int(self.args.generation_batch_size // self.num_generations)

    @property
    def _num_repeats(self) -> int:
        """The batches, on each process, that are made of a generation."""
        return int(self.num_iterations * self.args.steps_per_generation)

    def _num_batches(self, num_samples: int) -> int:
        return num_samples // self._num_prompts * self._num_repeats

    @property
    def _samples_in_update(self) -> float:
        return self._num_prompts * self.args.gradient_accumulation_steps / self._num_repeats

    @property
    def _done(self) -> float:
        """By the batches that are trained: prompts are recorded before, when they are generated for."""
        return self._num_trained / max(1, self._num_batches(self.pruner.current.num_trained))

    @property
    def _options(self) -> Mapping[str, Any]:
        """A pruner that, on each process, has all prompts; what is recorded of them are norms."""
        defaults = {"policy": NoiseBudget(), "shrink": "steps", "norms_from": "losses"}
        return {**defaults, **super()._options, "rank": 0, "num_replicas": 1}

    def _make_pruner(self) -> DynamicPruner:
        accumulated = self.args.gradient_accumulation_steps
        check_ends_with_a_generation(self._full_run % self._full_epoch, accumulated, self._num_repeats)
        return super()._make_pruner()

    def _weighted(self, outputs: Any, indices: list[int]) -> Any:
        """What is trained of a generation, each completion with the weight of its prompt."""
        weights = torch.from_numpy(self.pruner.relative(self.pruner.weights(indices).numpy()))
        if bool((weights == 1).all()):
            return outputs
        weights = weights.to(outputs["advantages"].device)
        weighted = {**outputs, "advantages": outputs["advantages"] * weights}
        if "num_items_in_batch" in outputs:
            # Divided by the tokens of chosen prompts, the loss would depend on how long theirs are.
            mask = outputs["completion_mask"]
            mask = mask * outputs["tool_mask"] if "tool_mask" in outputs else mask
            tokens = (mask.sum(1) * weights).sum()
            weighted["num_items_in_batch"] = self.accelerator.gather(tokens).sum()
        return weighted

    def _generation_file(self, checkpoint: Path) -> Path:
        return checkpoint / f"generation_{self.args.process_index}.pt"

    def _resume(self, checkpoint: Path) -> tuple[int, int]:
        self._load_pruner(checkpoint)
        epoch, path = self.pruner.current, self._generation_file(checkpoint)
        num_saved = len(list(checkpoint.glob("generation_*.pt")))
        if num_saved not in (0, self.args.world_size):
            raise ValueError(
                f"{checkpoint} was saved within a generation by {num_saved} processes, and there are "
                f"{self.args.world_size}, which cannot share its completions; resume on as many, or "
                "from a checkpoint between two generations"
            )
        num_generated, rest = divmod(epoch.num_recorded, self._num_prompts)
        trained = num_generated * self._num_repeats
        if num_saved:
            state = read_state(path)
            trained = state["trained"]
            self._step, self._buffered_inputs = trained, state["batches"]
        self._num_trained = trained
        if epoch.finished and not num_saved:
            return epoch.number + 1, 0
        if rest or trained % self.args.gradient_accumulation_steps:
            raise ValueError(
                f"{checkpoint} was saved {epoch.num_recorded:,} prompts into epoch {epoch.number}, no "
                f"multiple of the {self._samples_in_update:g} of an optimizer step here; resume with "
                "the values it was trained with"
            )
        return epoch.number, trained


class PruningGRPOTrainer(GRPOPruningMixin, GRPOTrainer):
    """``trl.GRPOTrainer`` with pruning; its arguments are those of :class:`GRPOPruningMixin`."""


class PruningRLOOTrainer(GRPOPruningMixin, RLOOTrainer):
    """``trl.RLOOTrainer`` with pruning; its arguments are those of :class:`GRPOPruningMixin`."""
