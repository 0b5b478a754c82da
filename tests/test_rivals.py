"""Each rival's rule, on an example worked out by hand; the sources are in the policies' cards."""

import math
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import random_losses
from infobatch import Neyman
from infobatch.policies import BLS, RS2, UCB, EpsilonGreedy, OrderDP, Proportional, RePB, Request, SeTa
from infobatch.policies.allocation import whole
from infobatch.policies.seta import group_bounds
from infobatch.scores import ScoreTable
from infobatch.selection import select

NAN = float("nan")


def request(num_pruned=None, seed=0, epoch=1):
    return Request(num_pruned, torch.Generator().manual_seed(seed), epoch, range(1, 9))


def table_of(losses, policy, **columns):
    names = dict.fromkeys(["last_loss", "visits", *policy.columns])
    table = ScoreTable.from_losses(torch.as_tensor(losses), list(names))
    for name, values in columns.items():
        table[name].copy_(torch.as_tensor(values))
    return table


def chosen(policy, table, *arguments, **options):
    return select(policy, table, request(*arguments, **options)).indices.tolist()


def record(table, indices):
    table.record(np.array(indices), np.ones(len(indices), np.float32))


def test_rs2_takes_a_permutation_in_parts():
    table = ScoreTable(12)
    record(table, range(12))  # the warm-up
    rounds = []
    for epoch in range(1, 9):
        part = chosen(RS2(0.75), table, seed=epoch, epoch=epoch)
        assert len(part) == 3
        record(table, part)
        rounds.append(part)
    for start in (0, 4):
        assert sorted(chain(*rounds[start : start + 4])) == list(range(12))
    assert rounds[:4] != rounds[4:]


def test_rs2_begins_the_next_permutation_with_what_is_left_of_the_last():
    policy = RS2()
    table = table_of(torch.ones(5), policy, visits=[2, 1, 2, 2, 2])
    part = chosen(policy, table, 3)
    assert len(part) == 2
    assert 1 in part


def test_the_smoothed_loss_is_four_fifths_old_and_a_fifth_new():
    table = ScoreTable(2, ["last_loss", "smoothed_loss"])
    for loss in (1.0, 2.0, math.inf):
        table.record(np.array([0]), np.array([loss], np.float32))
    assert float(table["smoothed_loss"][0]) == pytest.approx(0.8 * 1 + 0.2 * 2)
    assert math.isnan(table["smoothed_loss"][1])


def test_epsilon_greedy_keeps_the_highest_and_a_few_others():
    policy = EpsilonGreedy(0.5, epsilon=0.2)
    table = table_of(torch.arange(20.0), policy)
    others = np.zeros(20)
    for seed in range(400):
        kept = chosen(policy, table, seed=seed)
        assert len(kept) == 10
        assert set(range(12, 20)) <= set(kept)  # the 8 highest
        others[kept] += 1
    assert ((others[:12] / 400 - 2 / 12) < 5 * (2 / 12 * 10 / 12 / 400) ** 0.5).all()
    assert (others[:12] > 0).all()


def test_epsilon_greedy_ranks_by_the_smoothed_loss():
    policy = EpsilonGreedy(0.5, epsilon=0)
    table = table_of([5.0, 1.0, 1.0, 5.0], policy, smoothed_loss=[1.0, 4.0, 3.0, 2.0])
    assert chosen(policy, table) == [1, 2]


def test_ucb_adds_what_is_little_known():
    policy = UCB(0.5, c=1.0)
    table = table_of([0.0, 0.2, 1.0, 1.5], policy, visits=[1, 4, 8, 16])
    # At t = 8: 0 + 1.442, 0.2 + 0.721, 1 + 0.510, 1.5 + 0.361
    assert chosen(policy, table, epoch=8) == [2, 3]
    assert chosen(UCB(0.5, c=2.0), table, epoch=8) == [0, 3]  # 2.884, 1.642, 2.020, 2.221
    assert chosen(UCB(0.5, c=0.0), table, epoch=8) == [2, 3]


def test_a_sample_without_a_score_has_to_get_one():
    for policy in (EpsilonGreedy(0.5, 0), UCB(0.5), OrderDP(0.5, keep=0.5)):
        assert chosen(policy, table_of([9.0, NAN, 8.0, 9.0], policy), 3) == [1]


def test_order_dp_keeps_the_hardest_of_a_random_pool():
    policy = OrderDP(0.7, keep=0.6)  # 3 of a pool of 5
    table, times = table_of(torch.arange(10.0), policy), np.zeros(10)
    for seed in range(4000):
        kept = chosen(policy, table, seed=seed)
        assert len(kept) == 3
        times[kept] += 1
    # i is kept if at most 2 of the 9 - i harder ones are among the other 4 of the pool
    expected = [
        sum(math.comb(9 - i, j) * math.comb(i, 4 - j) for j in range(3)) / math.comb(10, 5)
        for i in range(10)
    ]
    error = np.sqrt(np.array(expected) * (1 - np.array(expected)) / 4000)
    assert (abs(times / 4000 - expected) <= 5 * error + 1e-9).all()


def test_order_dp_at_the_authors_defaults_pools_three_quarters():
    table = table_of(torch.arange(1000.0), OrderDP())
    assert len(chosen(OrderDP(), table)) == round(0.75 * 0.85 * 1000)


def test_bls_smooths_the_losses_of_a_samples_batches():
    table = ScoreTable(4, ["last_loss", "batch_loss", "visits"])
    table.record(np.array([0, 1]), np.array([1.0, 3.0], np.float32))
    table.record(np.array([0, 2]), np.array([4.0, 6.0], np.float32))
    expected = [0.9 * 0.2 + 0.1 * 5, 0.2, 0.5, 0.0]
    assert table["batch_loss"].tolist() == pytest.approx(expected)
    kept = BLS(0.75).keep_probabilities(table, request())  # the mean of three is 0.46; 3 has no score
    assert kept.probabilities[kept.strata.long()].tolist() == [1, 0.25, 1, 1]
    exact = BLS(0.5).keep_probabilities(table, request(1))  # the two lowest
    assert exact.probabilities[exact.strata.long()].tolist() == [1, 0.5, 0.5, 1]


def test_repb_leaves_out_what_lay_below_its_batchs_mean():
    policy = RePB(0.5)
    table = ScoreTable(6, ["last_loss", "below_batch", "visits"])
    table.record(np.arange(3), np.array([1.0, 2.0, 6.0], np.float32))  # mean 3
    table.record(np.arange(3, 6), np.array([10.0, 20.0, 60.0], np.float32))  # mean 30
    assert table["below_batch"].tolist() == [1, 1, 0, 1, 1, 0]
    left_out, num_draws = np.zeros(6), 1000
    for seed in range(num_draws):
        left_out += select(policy, table, request(seed=seed)).weights.numpy() == 0
    assert left_out[[2, 5]].tolist() == [0, 0]
    below = left_out[[0, 1, 3, 4]] / num_draws
    assert (abs(below - 0.5) < 5 * (0.25 / num_draws) ** 0.5).all()


def test_repb_weighs_by_how_often_a_sample_was_there():
    policy = RePB(0.5)
    table = table_of(torch.ones(4), policy, visits=[4, 2, 1, 4], below_batch=[0, 0, 0, 0])
    weights = select(policy, table, request(epoch=4)).weights
    assert weights.tolist() == pytest.approx([5 / 5, 5 / 3, 5 / 2, 5 / 5])
    exact = select(policy, table_of(torch.ones(4), policy, below_batch=[1, 0, 1, 1]), request(3))
    assert exact.indices.tolist() == [1]


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
    table = table_of([0.0, 0.1, 2.0, 2.1, 4.0, 4.1, 9.0, 9.1], policy)
    windows = [chosen(policy, table, epoch=epoch) for epoch in range(1, 6)]
    assert windows == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [0, 1, 2, 3], [2, 3, 4, 5]]


def test_seta_leaves_out_a_random_share_first():
    policy = SeTa(0.5, groups=2, alpha=1.0)
    parts = {tuple(chosen(policy, table_of(torch.arange(8.0), policy), seed=seed)) for seed in range(50)}
    assert {len(part) for part in parts} == {4}
    assert len(parts) > 20


@pytest.mark.parametrize(("num_pruned", "least", "most"), [(5, [4, 5, 6, 7], 3), (2, [2, 3, 4, 5], 6)])
def test_seta_to_a_number_draws_from_the_window_or_widens_it(num_pruned, least, most):
    policy = SeTa(0.0, groups=4, alpha=0.5)
    table = table_of([0.0, 0.1, 2.0, 2.1, 4.0, 4.1, 9.0, 9.1], policy)
    epoch = 3 if num_pruned == 5 else 2
    kept = chosen(policy, table, num_pruned, epoch=epoch)
    assert len(kept) == most
    assert set(kept) <= set(least) or set(least) <= set(kept)


def test_proportional_follows_the_loss_above_its_floor():
    losses = [1.0, 2.0, 3.0, 4.0, 0.0]
    policy = Proportional(floor=0.4)  # of the mean, 3 / 5
    kept = policy.keep_probabilities(table_of(losses, policy), request(2)).probabilities
    c = (3 - 1 - 0.24) / (1 + 2 + 3)  # 4 c > 1
    assert kept.tolist() == pytest.approx([c, 2 * c, 3 * c, 1, 0.24])


def test_proportional_to_the_root():
    policy = Proportional(0.5, power=0.5, floor=0.01)
    kept = policy.keep_probabilities(table_of([1.0, 4.0, 9.0, 16.0], policy), request(2)).probabilities
    assert kept.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_proportional_tells_nothing_apart_without_losses():
    policy = Proportional(0.5, floor=0.1)
    for losses in (torch.zeros(8), torch.full((8,), NAN), torch.full((8,), -1.0), torch.ones(8)):
        kept = policy.keep_probabilities(table_of(losses, policy), request(2)).probabilities
        assert kept.tolist() == pytest.approx([0.75] * 8)


def test_proportional_takes_what_has_no_score_for_the_hardest():
    policy = Proportional(0.5, floor=0.1)
    kept = policy.keep_probabilities(table_of([1.0, 2.0, NAN, 1.0], policy), request(2)).probabilities
    assert kept[2] == kept[1] == kept.max()


def test_neyman_draws_by_the_size_of_a_stratums_losses():
    policy = Neyman(strata=2, floor=0.1)
    losses = [1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0]
    kept = policy.keep_probabilities(table_of(losses, policy), request(4))
    assert kept.strata.tolist() == [0] * 4 + [1] * 4
    assert kept.probabilities.tolist() == [0.25, 0.75]  # 4 x 1 : 4 x 3, of 4
    mixed = table_of([0.0, 0.0, 4.0, 4.0] * 2, policy, smoothed_loss=[1.0] * 4 + [2.0] * 4)
    kept = policy.keep_probabilities(mixed, request(4))  # the same root mean square in both
    assert kept.probabilities.tolist() == [0.5, 0.5]


def test_neyman_draws_no_less_than_its_floor_and_no_more_than_there_are():
    policy = Neyman(strata=4, floor=0.5)
    losses = torch.tensor([0.0] * 10 + [0.01] * 10 + [1.0] * 10 + [100.0] * 10)
    kept = policy.keep_probabilities(table_of(losses, policy), request(16))
    # 0.5 x 24 / 40 = 0.3 in the three lower strata would leave 15 for the last, which has 10
    assert kept.probabilities[3] == 1
    assert kept.probabilities[:2].tolist() == [0.3, 0.3]
    assert (kept.probabilities * 10).sum() == 24


def test_neyman_takes_what_has_no_score_for_the_hardest():
    policy = Neyman(strata=2, floor=0.1)
    kept = policy.keep_probabilities(table_of([1.0, 1.0, NAN, NAN], policy), request(2))
    assert kept.probabilities.tolist() == [0.5, 0.5]


@settings(deadline=None)
@given(
    shares=st.lists(st.floats(0, 20), min_size=1, max_size=12),
    total=st.floats(0, 1),
    data=st.data(),
)
def test_shares_are_made_whole(shares, total, data):
    counts = np.array([data.draw(st.integers(max(1, int(s)), 25)) for s in shares])
    total = round(len(counts) + total * (counts.sum() - len(counts)))
    numbers = whole(np.array(shares), total, counts)
    assert numbers.sum() == total
    assert ((numbers >= 1) & (numbers <= counts)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EpsilonGreedy(0.5, 1.5), "epsilon is 1.5; it is a share of the kept"),
        (lambda: UCB(0.5, -1), "c is -1; it must be a number of at least 0"),
        (lambda: OrderDP(0.5, 0), "keep is 0; it is a share of the pool"),
        (lambda: SeTa(0.1, 5, 0.05), "must keep at least one of them"),
        (lambda: Proportional(0.5, floor=0), "floor is 0; it is a share of the mean"),
        (lambda: Neyman(floor=1.5), "floor is 1.5; it is a share of the mean"),
        (lambda: Neyman(strata=1), "strata is 1; it must be a whole number from 2 to 200"),
        (lambda: Proportional(0.5, power=-1), "power is -1; it must be at least 0"),
        (lambda: Proportional().check_target(100, 100), "at least one must be kept"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
