"""SeTa slides a window over groups from easy to hard."""

import numpy as np
import pytest
import torch

from helpers import random_losses, table_from
from helpers.policies import chosen
from infobatch.policies import SeTa
from infobatch.policies.seta import group_bounds


def test_groups_on_a_line_are_those_of_k_means():
    losses = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 1.2, 5.0, 5.1, np.inf])
    assert group_bounds(losses, 3).tolist() == [0, 3, 6, 9]
    assert group_bounds(np.full(4, 2.0), 2)[[0, -1]].tolist() == [0, 4]


def test_groups_agree_with_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    losses = random_losses(300).sort().values.numpy().astype(np.float64)
    bounds = group_bounds(losses, 4)
    ours = sum(((part - part.mean()) ** 2).sum() for part in np.split(losses, bounds[1:-1]))
    theirs = cluster.KMeans(4, n_init=20, random_state=0).fit(losses[:, None]).inertia_
    assert ours == pytest.approx(theirs, rel=0.1)


def test_seta_slides_a_window_from_easy_to_hard_and_again():
    policy = SeTa(0.0, groups=4, alpha=0.5)
    table = table_from([0.0, 0.1, 2.0, 2.1, 4.0, 4.1, 9.0, 9.1], policy)
    windows = [chosen(policy, table, epoch=epoch) for epoch in range(1, 6)]
    assert windows == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [0, 1, 2, 3], [2, 3, 4, 5]]


def test_seta_leaves_out_a_random_share_first():
    policy = SeTa(0.5, groups=2, alpha=1.0)
    parts = {
        tuple(chosen(policy, table_from(torch.arange(8.0), policy), seed=seed)) for seed in range(50)
    }
    assert {len(part) for part in parts} == {4}
    assert len(parts) > 20


@pytest.mark.parametrize(("num_pruned", "least", "most"), [(5, [4, 5, 6, 7], 3), (2, [2, 3, 4, 5], 6)])
def test_seta_to_a_number_draws_from_the_window_or_widens_it(num_pruned, least, most):
    policy = SeTa(0.0, groups=4, alpha=0.5)
    table = table_from([0.0, 0.1, 2.0, 2.1, 4.0, 4.1, 9.0, 9.1], policy)
    epoch = 3 if num_pruned == 5 else 2
    kept = chosen(policy, table, num_pruned, epoch=epoch)
    assert len(kept) == most
    assert set(kept) <= set(least) or set(least) <= set(kept)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SeTa(0.1, 5, 0.05), "must keep at least one of them"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
