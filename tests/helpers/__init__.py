"""What several test files need; more by subject is in the modules of this folder."""

from helpers.ids import without_address
from helpers.lab import changed, check_goes_on, full_disk, run, stop_after, without_times
from helpers.policies import keep_probabilities, made, request, selection_of, table_from, table_of
from helpers.processes import error_without, launch, made_once, ray_cluster
from helpers.training import (
    COMPILE_BACKENDS,
    UNMERGED,
    Numbers,
    Seeds,
    after_one_epoch,
    batched_pruner,
    by_the_paper,
    check_same_history,
    in_pruned_epoch,
    new_pruner,
    random_losses,
    record_epoch,
    train_epoch,
)

__all__ = [
    "COMPILE_BACKENDS",
    "UNMERGED",
    "Numbers",
    "Seeds",
    "after_one_epoch",
    "batched_pruner",
    "by_the_paper",
    "changed",
    "check_goes_on",
    "check_same_history",
    "error_without",
    "full_disk",
    "in_pruned_epoch",
    "keep_probabilities",
    "launch",
    "made",
    "made_once",
    "new_pruner",
    "random_losses",
    "ray_cluster",
    "record_epoch",
    "request",
    "run",
    "selection_of",
    "stop_after",
    "table_from",
    "table_of",
    "train_epoch",
    "without_address",
    "without_times",
]
