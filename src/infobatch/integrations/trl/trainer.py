"""TRL's trainers with pruning: prompts selected by the spread of their rewards, advantages weighted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler

from infobatch.batching import ShrinkBatches, shrink_of
from infobatch.integrations.transformers.epochs import PrunedEpochs, read_state
from infobatch.integrations.transformers.installed import PREFIX_CHECKPOINT_DIR, seed_worker
from infobatch.integrations.transformers.items import MeanItems, sums_of
from infobatch.integrations.trl.generations import FILE, read_generations, sizes_of
from infobatch.integrations.trl.groups import (
    GroupBatches,
    IndexedRows,
    have_spread,
    have_unequal,
    rewards_of,
    smallest_part,
    spreads,
    without_indices,
)
from infobatch.integrations.trl.installed import GRPOTrainer, RLOOTrainer
from infobatch.integrations.trl.refusals import (
    check_can_shrink,
    check_ends_with_a_generation,
    check_rows,
    check_trainer,
)
from infobatch.policies import NoiseBudget
from infobatch.pruner import DynamicPruner


class GRPOPruningMixin(PrunedEpochs):
    """Gives a GRPOTrainer or RLOOTrainer pruning: ``class Mine(GRPOPruningMixin, MyGRPOTrainer)``.

    Prompts are the samples. The score of each is the root mean square of its group's advantages, 0 where
    all its completions have one reward. One group tells little of a prompt, so that the default policy,
    ``NoiseBudget(by="smoothed_norm")``, goes by the running mean; where there is a target, with
    ``max_noise=None``. Each process keeps the scores of all prompts.

    Args:
        *args: The trainer's own arguments.
        pruning: Options of :class:`DynamicPruner`, such as ``policy``, ``target`` or ``warmup_epochs``.
            The run's length and, unless it is given, the seed are those of the trainer's arguments,
            whose ``max_steps`` counts steps of full data; where pruning shrinks steps, the run ends
            after fewer.
        **kwargs: The trainer's own keyword arguments.

    Raises:
        ValueError: For arguments that do not go together with pruning; each with the remedy.
        TypeError: If ``pruning`` is no mapping of options, such as a policy, or has what is no option;
            also if prompts are a stream.
    """

    _step: int
    _buffered_inputs: list[Any] | None

    def __init__(self, *args: Any, pruning: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, pruning=pruning, **kwargs)
        check_trainer(self, self.pruning)
        self._num_trained = 0  # batches of the epoch
        self._rewards = torch.empty(0)  # of the latest generation, on all processes
        self._mean_tokens = MeanItems()

    # -- What TRL and the Trainer call ---------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._step, self._num_trained, self._buffered_inputs = 0, 0, None
        self._mean_tokens = MeanItems()
        return super().train(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """A process's share of the generations, which Accelerate must not share out again."""
        args, size = self.args, self._num_prompts
        generations: Sampler[list[int]]
        if self.pruner.plan.shrink:
            generations = self.pruner.batch_sampler(size, drop_last=True, resumes=False)
        else:
            prompts = self.pruner.sampler(size, drop_last=True, resumes=False)
            generations = BatchSampler(prompts, size, drop_last=True)
        rank, num_replicas = args.process_index, args.world_size
        return DataLoader(
            IndexedRows(self._remove_unused_columns(self.train_dataset, description="Training")),
            batch_sampler=GroupBatches(
                generations, self.num_generations, self._num_repeats, rank, num_replicas
            ),
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
            worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=rank),
        )

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
            self._rewards = rewards_of(rewards, self.reward_weights)
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
        if not self._rewards_have_kl:
            scores = scores * have_unequal(self._rewards, self.num_generations)
        scored = have_spread(self._rewards, self.num_generations)
        self.pruner.record(scores, groups, scored=scored, gradient_norms=scores)
        return self._weighted(outputs, own)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not self.args.save_only_model:
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            self._save_generations(Path(self._get_output_dir(trial=trial)) / name)
        super()._save_checkpoint(model, trial)

    # -- Inside ------------------------------------------------------------------------------------

    @property
    def _num_prompts(self) -> int:
        """The prompts of a generation, on all processes."""
        return int(self.args.generation_batch_size // self.num_generations)

    @property
    def _rewards_have_kl(self) -> bool:
        """Whether advantages are made of more than the functions' rewards, as RLOO's are by default."""
        return isinstance(self, RLOOTrainer) and self.beta != 0

    @property
    def _num_repeats(self) -> int:
        """The batches, on each process, that are made of a generation."""
        return int(self.num_iterations * self.args.steps_per_generation)

    def _num_batches(self, num_samples: int) -> int:
        return num_samples // self._num_prompts * self._num_repeats

    @property
    def _num_in_epoch(self) -> int:
        """The batches of the epoch."""
        plan, epoch = self.pruner.plan, self.pruner.current
        if plan.shrink:
            return plan.num_batches(epoch.number) * self._num_repeats
        return self._num_batches(epoch.num_trained)

    @property
    def _samples_in_update(self) -> float:
        return self._num_prompts * self.args.gradient_accumulation_steps / self._num_repeats

    @property
    def _done(self) -> float:
        """By the batches that are trained: prompts are recorded before, when they are generated for."""
        return self._num_trained / max(1, self._num_in_epoch)

    @property
    def _options(self) -> Mapping[str, Any]:
        """A pruner that, on each process, has all prompts; what is recorded of them are norms."""
        defaults = {"policy": None, "shrink": None, "norms_from": "losses"}
        options = {**defaults, **super()._options, "rank": 0, "num_replicas": 1}
        if options["policy"] is None:
            max_noise = NoiseBudget.max_noise if options.get("target") is None else None
            options["policy"] = NoiseBudget(max_noise, by="smoothed_norm")
        if not self._tells:
            options.pop("record_to", None)
        shrink = shrink_of(options["shrink"] or getattr(options["policy"], "shrinks", "steps"))
        if shrink is not None:
            num_parts = self.args.world_size * self.args.steps_per_generation
            part = math.lcm(smallest_part(self.num_generations, num_parts), shrink.multiple)
            check_can_shrink(part, self._num_prompts)
            options["shrink"] = ShrinkBatches(shrink.least, part)
        return options

    @property
    def _tells(self) -> bool:
        return bool(self.args.process_index == 0)  # each process has a pruner of its own

    def _make_pruner(self) -> DynamicPruner:
        accumulated = self.args.gradient_accumulation_steps
        check_ends_with_a_generation(self._full_run % self._full_epoch, accumulated, self._num_repeats)
        return super()._make_pruner()

    def _weighted(self, outputs: Any, indices: list[int]) -> Any:
        """What is trained of a generation, each completion with the weight of its prompt."""
        weights = self.pruner.relative_weights(indices).to(outputs["advantages"].device)
        counts_tokens = "num_items_in_batch" in outputs
        if counts_tokens:
            mask = outputs["completion_mask"]
            mask = mask * outputs["tool_mask"] if "tool_mask" in outputs else mask
            all_tokens, all_weights = self.accelerator.gather((mask.sum(1), weights))
            sums = sums_of(all_tokens, all_weights)
            self._mean_tokens.add(self.pruner.epoch, sums)
        if self.pruner.current.num_selected == self.pruner.num_samples:
            return outputs  # as they are
        advantages = outputs["advantages"]
        each = weights.view(-1, *[1] * (advantages.dim() - 1))
        weighted = {**outputs, "advantages": advantages * each}
        if counts_tokens:
            weighted["num_items_in_batch"] = self._mean_tokens.expected(sums).to(weights)
        return weighted

    def _generation_file(self, checkpoint: Path) -> Path:
        return checkpoint / f"generation_{self.args.process_index}.pt"

    def _save_generations(self, checkpoint: Path) -> None:
        """Save where the run stands, and within a generation its completions."""
        checkpoint.mkdir(parents=True, exist_ok=True)
        is_within = self._num_trained % self._num_repeats > 0
        if is_within:
            torch.save(self._buffered_inputs, self._generation_file(checkpoint))
        if self.args.should_save:
            state = {
                "trained": self._num_trained,
                "num_repeats": self._num_repeats,
                "num_processes": self.args.world_size,
                "epoch_is_over": self.pruner.current.finished and not is_within,
                "sizes": sizes_of(self.args),
                "tokens": self._mean_tokens.state_dict(),
            }
            torch.save(state, checkpoint / FILE)

    def _resume(self, checkpoint: Path) -> tuple[int, int]:
        self._load_pruner(checkpoint)
        state = read_generations(checkpoint, self.args)
        self._mean_tokens.load_state_dict(state["tokens"])
        self._num_trained = self._step = trained = state["trained"]
        if state["epoch_is_over"]:
            return self.pruner.epoch + 1, 0
        if trained % self._num_repeats:
            batches = read_state(self._generation_file(checkpoint))
            self._buffered_inputs = send_to_device(batches, self.accelerator.device)
        return self.pruner.epoch, trained


class PruningGRPOTrainer(GRPOPruningMixin, GRPOTrainer):
    """``trl.GRPOTrainer`` with pruning; its arguments are those of :class:`GRPOPruningMixin`."""


class PruningRLOOTrainer(GRPOPruningMixin, RLOOTrainer):
    """``trl.RLOOTrainer`` with pruning; its arguments are those of :class:`GRPOPruningMixin`."""
