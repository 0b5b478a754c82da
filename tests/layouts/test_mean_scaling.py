"""The mean of the ranks' means is the mean over the global batch."""

import numpy as np
import pytest
import torch

from helpers import UNMERGED, Numbers, random_losses
from helpers.replicated import LAYOUTS, ranks
from helpers.sharded import Ranks
from infobatch import DynamicPruner, InfoBatch, weighted_mean
from infobatch.policies import PercentileTiers


@pytest.mark.parametrize(("size", "num_replicas", "batch_size"), LAYOUTS)
def test_the_ranks_mean_is_the_mean_over_the_real_global_batch(size, num_replicas, batch_size):
    losses = random_losses(size, seed=5)
    made = ranks(size, num_replicas, batch_size)
    weights = made[0][0].selection.weights
    for step in zip(*(list(loader) for _, loader in made), strict=True):
        means, real = [], []
        for (pruner, _), (indices, batch) in zip(made, step, strict=True):
            assert batch.tolist() == np.where(indices < 0, ~indices, indices).tolist()
            means.append(float(pruner.weigh(losses[batch.long()], indices)))
            shown = float(pruner.update(losses[batch.long()], indices))
            assert shown == pytest.approx(means[-1] / pruner.mean_weight)
            real += [index for index in indices if index >= 0]
        expected = float(weighted_mean(losses[real], weights[real]))
        assert np.mean(means) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("size", "num_replicas", "batch_size"), LAYOUTS)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("normalizer", ["mean", "weights"])
def test_the_ranks_means_over_weights_are_those_of_the_global_batch(
    size, num_replicas, batch_size, drop_last, num_parts, normalizer
):
    losses = random_losses(size, seed=5)
    options = {"normalizer": normalizer, "policy": PercentileTiers()}
    ((one, whole),) = ranks(size, 1, batch_size * num_replicas, drop_last, **options)
    made = ranks(size, num_replicas, batch_size, drop_last, **options)
    assert len(set(one.selection.weights.tolist())) > 1
    for (indices, _), *step in zip(whole, *(loader for _, loader in made), strict=True):
        means = []
        for (pruner, _), (part, batch) in zip(made, step, strict=True):
            if num_parts > len(part):
                num_parts = 1
            mine = losses[batch.long()]
            split = zip(np.array_split(part, num_parts), mine.tensor_split(num_parts), strict=True)
            accumulated = [len(x) / len(part) * float(pruner.update(y, x)) for x, y in split]
            means.append(sum(accumulated))
        assert np.mean(means) == pytest.approx(float(one.update(losses[indices], indices)), rel=1e-5)


@pytest.mark.parametrize("normalizer", ["batch", "weights"])
def test_a_batch_may_have_its_repeats_first(normalizer):
    losses = random_losses(35, seed=5)
    made = ranks(35, 2, 4, normalizer=normalizer, policy=PercentileTiers())
    num_first = 0
    for pruner, loader in made:
        for indices, batch in loader:
            places = np.argsort(indices)
            num_first += indices[places[0]] < 0 <= indices.max()
            turned = pruner.weigh(losses[batch.long()][places], indices[places])
            assert float(turned) == pytest.approx(float(pruner.weigh(losses[batch.long()], indices)))
    assert num_first > 0


def test_a_mean_over_weights_is_the_same_after_resuming():
    losses = random_losses(57, seed=5)
    made = ranks(57, 2, 8, normalizer="weights")
    for pruner, loader in made:
        values = []
        for step, (indices, batch) in enumerate(loader):
            values.append(float(pruner.update(losses[batch.long()], indices)))
            if step == 0:
                recorded = pruner.current.recorded.copy()
                state = pruner.state_dict()
        # What both ranks together have recorded, as merging would have it.
        recorded[pruner.current.order[:16]] = True
        state["recorded"] = torch.from_numpy(recorded)
        resumed = DynamicPruner(
            Numbers(57),
            6,
            rank=pruner.replicas.rank,
            num_replicas=2,
            policy=InfoBatch(),
            normalizer="weights",
            layout=UNMERGED,
        )
        loader = resumed.loader(8)
        resumed.load_state_dict(state)
        rest = [float(resumed.update(losses[batch.long()], indices)) for indices, batch in loader]
        assert rest == values[1:]


def test_a_mean_over_weights_needs_the_global_batch():
    options = {"rank": 0, "num_replicas": 2, "normalizer": "weights"}
    with pytest.raises(RuntimeError, match="make the loader first, or use normalizer='batch'"):
        DynamicPruner(Numbers(40), 3, **options).weigh(torch.ones(2), [1, 2])
    for own in ({"sampler": range(40)}, {"batch_sampler": [[1, 2], [3]]}):
        with pytest.raises(ValueError, match=r"not known with a sampler of your own; use"):
            DynamicPruner(Numbers(40), 3, **options).loader(**own)


def test_the_mean_of_the_ranks_means_is_that_of_the_real_global_batch():
    for num_replicas, size in [(2, 601), (3, 607), (5, 613), (7, 607)]:
        losses = random_losses(size, seed=5)
        ranks = Ranks(num_replicas, size, 8 * num_replicas).score(losses)
        weights = ranks.weights
        for step in zip(*ranks.loaders, strict=True):
            means, real = [], []
            for pruner, (indices, batch) in zip(ranks.pruners, step, strict=True):
                means.append(float(pruner.weigh(losses[batch.long()], indices)))
                pruner.record(losses[batch.long()], indices)
                real += [index for index in indices.tolist() if index >= 0]
            expected = float(weighted_mean(losses[real], weights[real]))
            assert np.mean(means) == pytest.approx(expected, rel=1e-5)


def test_weights_divided_by_their_mean_are_1_in_the_mean():
    run = Ranks(3, normalizer="mean").score(random_losses(600))
    weights = run.weights
    assert all(
        pruner.mean_weight == pytest.approx(600 / int((weights > 0).sum())) for pruner in run.pruners
    )
    for pruner, loader in zip(run.pruners, run.loaders, strict=True):
        *batches, _ = [indices for indices, _ in loader]  # the last one may have repeats
        for batch in batches:
            expected = weights[batch].mean() / pruner.mean_weight
            assert float(pruner.weigh(torch.ones(len(batch)), batch)) == pytest.approx(float(expected))
