"""What the Trainer offers that does not go together with pruning; each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from infobatch.integrations.refusals import Refusal, check_run_options, check_settings, other_than
from infobatch.integrations.transformers.batches import INDICES
from infobatch.policies import Policy
from infobatch.scores.columns import COLUMNS, SIGNALS, IndexArray


def check_reads_losses_alone(policy: Policy | None) -> None:
    """Refuse a policy that reads more of a batch than its losses."""
    if policy is None or policy.estimates_norms:
        return
    for column in policy.columns:
        signal = COLUMNS[column].signal
        if signal in SIGNALS:
            raise ValueError(
                f"{policy!r} reads {signal}, and the Trainer gives the pruner losses alone; take a "
                "policy that goes by losses, or a loop of your own, where update takes them"
            )


def check_trainer(trainer: Any, pruning: Mapping[str, Any]) -> None:
    """Refuse what would train something else than asked for, before training."""
    source = "TrainingArguments and the processes it was launched on"
    check_run_options(pruning, "the Trainer", "pruning", source)
    check_reads_losses_alone(pruning.get("policy"))
    if pruning.get("normalizer", "batch") != "batch":
        raise ValueError(
            f"normalizer is {pruning['normalizer']!r}; the Trainer divides by the number of supervised "
            "items in the batch (num_items_in_batch), so leave it at 'batch'"
        )
    check_settings(trainer.args, _REFUSED)
    check_epochs(trainer)
    if trainer.compute_loss_func is not None:
        raise ValueError(
            "compute_loss_func gives one loss for the whole batch, but pruning needs each sequence's; "
            "leave it out and override sample_losses instead"
        )


def check_epochs(trainer: Any) -> None:
    """Refuse settings under which a Trainer's epochs would not be those of its pruner."""
    check_settings(trainer.args, _REFUSED_OF_EPOCHS)
    if trainer.args.n_gpu > 1:
        raise ValueError(
            f"n_gpu is {trainer.args.n_gpu}: one process drives several devices "
            "(torch.nn.DataParallel); launch one for each, with torchrun or accelerate launch"
        )
    if trainer.accelerator.gradient_accumulation_steps > 1:
        raise ValueError(
            f"gradient_accumulation_steps is {trainer.args.gradient_accumulation_steps}, by which "
            "this transformers' Trainer (5.4 and 5.5) divides the gradient a second time; install 5.6 "
            "or later"
        )
    sizes = {kind: getattr(trainer, f"get_{kind}_size")() for kind in ("tp", "cp", "sp")}
    if max(sizes.values()) > 1:
        raise ValueError(
            f"the parallel sizes are {sizes}: processes that share one batch's tensors, context or "
            "sequences would train different samples; use data parallelism alone"
        )
    if getattr(trainer.args.accelerator_config, "split_batches", False):
        raise ValueError(
            "accelerator_config has split_batches=True: a batch is not split among the processes here, "
            "each has its own share of the selection; leave it out"
        )


_REFUSED_OF_EPOCHS = {
    "auto_find_batch_size": Refusal(
        other_than(False),
        "it restarts training with another batch size when memory runs out, but which samples were "
        "trained and their scores would stay those of the attempt",
        "set per_device_train_batch_size",
    ),
    "ignore_data_skip": Refusal(
        other_than(False),
        "a resumed run would train the samples of its epoch again; skipping costs nothing here, for "
        "only indices are skipped",
        "leave it off",
    ),
    "train_sampling_strategy": Refusal(
        other_than("random"),
        "the order of an epoch is the pruner's own permutation",
        "leave it at 'random'",
    ),
    "dataloader_in_order": Refusal(
        other_than(True),
        "a resumed run skips as many batches as were trained, which are not the first ones then",
        "leave it on",
    ),
    "enable_jit_checkpoint": Refusal(
        other_than(False),
        "it saves between a batch's losses and the update they belong to, which a resumed run would "
        "then miss",
        "use save_strategy",
    ),
}

_REFUSED = {
    "use_liger_kernel": Refusal(
        other_than(False),
        "its fused loss never makes the logits that the loss of a single sequence needs",
        "leave it off",
    ),
    # Of TRL's SFTConfig.
    "packing": Refusal(
        other_than(False),
        "it joins several samples in a row, which has one loss for all of them",
        "leave it off, or pack the dataset beforehand, its rows being the samples",
    ),
    "padding_free": Refusal(
        other_than(False),
        "it joins a batch in one row, in which no sample has a loss of its own",
        "leave it off",
    ),
    "loss_type": Refusal(
        other_than("nll"),
        "the loss that is weighted is the cross-entropy, which would be trained instead",
        "leave it at 'nll', or use TRL's trainer without pruning",
    ),
}


def indices_in(inputs: Any, trainer: object) -> IndexArray:
    """Take the indices out of a batch that is trained; refuses batches of another loader."""
    if INDICES not in inputs:
        raise own_loader(trainer)
    indices: IndexArray = inputs.pop(INDICES)
    return indices


def own_loader(trainer: object) -> RuntimeError:
    """The refusal of a loader that is not the pruner's."""
    owner = _owner(trainer, "get_train_dataloader")
    return RuntimeError(
        f"the batches have no {INDICES!r}: get_train_dataloader of {owner} makes a loader of its own, "
        "whose samples are not the selected ones; leave it out"
    )


def check_weighed(weighed: bool, trainer: object, mixin: type) -> None:
    """Refuse a step whose loss was not made of the weighted losses of its samples."""
    if weighed:
        return
    owner = _owner(trainer, "compute_loss")
    if owner == mixin.__name__:
        after = type(trainer).__mro__[type(trainer).__mro__.index(mixin) + 1 :]
        owner = next(kind.__name__ for kind in after if "compute_loss" in vars(kind))
    raise RuntimeError(
        f"compute_loss of {owner} made a loss of its own, so that no sample's was recorded or weighted "
        "and nothing could ever be pruned; override sample_losses(outputs, labels) in its place, or "
        "have it return super().compute_loss(...)"
    )


def _owner(trainer: object, method: str) -> str:
    """The class that a trainer has a method of."""
    return next(kind.__name__ for kind in type(trainer).__mro__ if method in vars(kind))


def check_rows(labels: Any, indices: IndexArray) -> None:
    """Refuse batches whose rows are not their samples."""
    if labels is None:
        raise ValueError(
            "the batch has no 'labels', so its sequences' losses cannot be computed; name the column "
            "so, or have the data collator make it"
        )
    if len(labels) != len(indices):
        raise ValueError(
            f"the batch has {len(labels)} rows of labels for {len(indices)} samples: packing or "
            "padding-free collation joins several in a row, so that none has a loss of its own. Use a "
            "collator that pads, or pack the dataset beforehand, its rows being the samples. One that "
            "drops samples returns infobatch.loading.Kept(batch, kept)"
        )


def check_labels(labels: Tensor) -> None:
    """Refuse labels that are no classes."""
    if labels.is_floating_point():
        raise ValueError(
            f"the labels have dtype {labels.dtype}, as regression and multi-label classification have "
            "them; override sample_losses to give each sequence's loss"
        )


@contextmanager
def refusing_models_that_need_labels(name: str) -> Iterator[None]:
    """Refuse a model that raises where it is not given its labels."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} does not run without labels ({error}); pruning, which computes the loss of each "
            "sequence itself, gives it none. Make labels optional in its forward; or if it makes its "
            "decoder's inputs of them, have the data collator make those (decoder_input_ids)"
        ) from error


def check_same_logits(labelled: Tensor, unlabelled: Tensor, name: str) -> None:
    """Refuse a model that makes other logits where it is given labels; the first sample's tell."""
    with_labels, without = labelled[0].float(), unlabelled[0].float()
    if (with_labels - without).abs().mean() > 0.05 * without.std(correction=0):
        raise ValueError(
            f"{name} makes other logits without labels than with them, and pruning, which computes the "
            "loss of each sequence itself, gives it none. Have the data collator make what the model "
            "makes of labels, such as the decoder's inputs (decoder_input_ids)"
        )


def check_same_loss(theirs: Tensor | None, ours: Tensor, name: str, of_routers: float = 0.0) -> None:
    """Refuse a model whose own loss is not the cross-entropy that we would train instead.

    They are of the same logits, so that beside the part ``of_routers`` they differ by rounding alone.
    """
    if theirs is None or not theirs.isfinite():
        return  # nothing to compare with, or a batch without a supervised token
    tolerance = 0.02 if theirs.dtype.itemsize < 4 else 0.001
    if abs(float(theirs) - of_routers - float(ours)) > tolerance * max(1.0, abs(float(theirs))):
        part = f" ({of_routers:.4g} of it is its routers')" if of_routers else ""
        raise ValueError(
            f"{name} makes a loss of {float(theirs):.4g}{part} of the first batch, where the "
            f"cross-entropy of its logits and labels is {float(ours):.4g}: it has a loss of its own, "
            "which pruning would replace. Override sample_losses to give each sequence's"
        )
