"""Forward passes over training samples that are not trained on: their losses, as the model stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from infobatch import IndexedCollate, IndexedDataset
from infobatch.lab.data.feed import loader_options
from infobatch.lab.processes import replicas, total
from infobatch.lab.tasks.base import SampleOutputs, Task
from infobatch.scores.columns import IndexArray


def forward_passes(
    task: Task, indices: Sequence[int], signals: Sequence[str] = ()
) -> Iterator[tuple[IndexArray, SampleOutputs]]:
    """Run a task's model in evaluation mode on training samples, augmented as the epoch is.

    Args:
        task: The model and its samples.
        indices: The samples.
        signals: Names of what is asked for beside the losses.

    Returns:
        Batch by batch, the indices (B,) and what the model gives for them.
    """
    loader = DataLoader(
        Subset(IndexedDataset(task.feed.dataset), indices),
        task.config.batch_size // replicas().num_replicas,
        collate_fn=IndexedCollate(task.feed.collate),
        generator=torch.Generator(),  # else the global one would be drawn from
        **loader_options(task.feed.num_workers, task.device),
    )
    for part, batch in loader:
        yield part, task.eval_outputs(task.inputs(batch, part), signals)


def losses_of_all(task: Task, pause: Callable[[], None]) -> Tensor:
    """Compute the scores of all training samples at the model's weights, shared out among the ranks.

    Args:
        task: The model and its samples.
        pause: Called between batches, as often on every rank.

    Returns:
        float32 (N,) on the host, with NaN for samples that have no score.
    """
    num_samples, here = len(task.feed.dataset), replicas()
    scores = torch.zeros(num_samples, device=task.device)
    task.begin(0)
    share = range(here.rank, num_samples, here.num_replicas)
    smallest_share, done = num_samples // here.num_replicas, 0
    for indices, outputs in forward_passes(task, share):
        if done < smallest_share:
            pause()
        done += len(indices)
        values = outputs.recorded.detach().float()
        if outputs.scored is not None:
            values = values.masked_fill(~outputs.scored, float("nan"))
        scores[torch.from_numpy(indices).to(scores.device)] = values
    return total(scores)
