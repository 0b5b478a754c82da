"""The noise and the bias of a step's gradient: worked examples, and no trace in a run."""

import itertools
from dataclasses import replace

import pytest
import torch

from helpers import made, random_losses, table_of
from helpers.digits import PROBED, trained
from infobatch import InfoBatch, RandomPruning
from infobatch.lab.training.gradient_noise import estimate_noise, influence_of, products_over_all
from infobatch.policies import POLICIES, BiasedPolicy, KeepProbabilities, Policy, Request
from infobatch.policies.ranking import ones_at
from infobatch.scores import ScoreTable

# |g|^2 = 9, 1, 1, 1; their mean is (1, 1/2), so that full data's noise is 12/4 - 5/4 = 7/4.
GRADIENTS = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])


class Fixed(Policy):
    """Keeps four samples with given probabilities."""

    def __init__(self, *probabilities):
        self.probabilities = torch.tensor(probabilities, dtype=torch.float64)

    def keep_probabilities(self, scores, request):
        return KeepProbabilities(self.probabilities)

    def check_target(self, num_pruned, num_samples):
        pass


def request(number):
    return Request(None, torch.Generator().manual_seed(number), epoch=1, prunable=range(1, 5))


def noise_of(policy, gradients=GRADIENTS, table=None):
    table = table or ScoreTable.from_losses(torch.tensor([2.0, 1.0, 2.0, 1.0]))
    counts = influence_of(policy, table, request, torch.arange(len(gradients)))
    return estimate_noise([[gradients]], counts, len(gradients))


def test_keeping_everything_is_full_data():
    noise = noise_of(Fixed(1, 1, 1, 1))
    assert noise.ratio == pytest.approx(1)
    assert noise.bias == 0


def test_random_pruning_is_as_noisy_as_full_data():
    noise = noise_of(RandomPruning(0.5))
    assert noise.ratio == pytest.approx(1)
    assert noise.bias == 0


def test_the_noise_of_an_unbiased_policy_is_that_of_horvitz_and_thompson():
    # k = 3 of 4: [3/4 (9 + 1/.5 + 1 + 1/.5) / 4 - 5/4] / (7/4) = (21/8 - 10/8) / (14/8).
    noise = noise_of(Fixed(1, 0.5, 1, 0.5))
    assert noise.ratio == pytest.approx(11 / 14)
    assert noise.bias == 0
    # The wrong way about: [3/4 (9/.5 + 1 + 1/.5 + 1) / 4 - 5/4] / (7/4).
    assert noise_of(Fixed(0.5, 1, 0.5, 1)).ratio == pytest.approx((33 / 8 - 10 / 8) / (14 / 8))


def test_the_noise_is_the_variance_over_every_draw_there_is():
    """Steps of one sample, each of every possible selection of a stratum: their variance outright."""
    keep = KeepProbabilities(torch.tensor([0.5, 1.0]), torch.tensor([0, 0, 0, 0, 1, 1]).to(torch.uint8))
    gradients = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    steps = [
        gradients[i] * (2.0 if i < 4 else 1.0) * 4 / 6  # of mean 1 over the 4 of 6 that are kept
        for pair in itertools.combinations(range(4), 2)
        for i in (*pair, 4, 5)
    ]
    variance = torch.stack(steps).var(0, correction=0).sum()
    expected = variance / gradients.var(0, correction=0).sum()

    class Strata(Fixed):
        def keep_probabilities(self, scores, request):
            return keep

    noise = noise_of(Strata(), gradients, ScoreTable.from_losses(torch.ones(6)))
    assert noise.ratio == pytest.approx(float(expected))


class Highest(BiasedPolicy):
    """Keeps the half with the highest losses."""

    def weights(self, scores, request):
        order = scores["last_loss"].argsort(descending=True).numpy()
        return ones_at(order[: len(order) // 2], len(scores))


def test_the_bias_of_the_harder_half_is_known():
    # Samples 0 and 2, of weight 2: they point to (2, 0), and |(2, 0) - (1, 1/2)| = |(1, 1/2)|.
    # Of noise: [2/4 (4 x 9 + 4 x 1) / 4 - 4] / (7/4).
    noise = noise_of(Highest())
    assert noise.bias == pytest.approx(1)
    assert noise.ratio == pytest.approx(4 / 7)


def test_draws_that_leave_out_all_alike_have_no_bias():
    """RS2 with no visits yet draws all alike: what is left is the chance of 32 draws, removed."""
    gradients = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) + 1
    table = table_of(random_losses(500), POLICIES["ucb"]())
    table["visits"].zero_()
    noise = noise_of(POLICIES["rs2"](), gradients, table)
    assert noise.bias < 0.02
    assert noise.ratio == pytest.approx(1, abs=0.03)
    assert noise_of(Highest(), gradients * table["last_loss"][:, None], table).bias > 0.5


def test_a_probe_estimates_what_all_samples_give():
    """Over every probe of 4 of 6 the inner products of means are, in the mean, those of all 6."""
    vectors = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1)).double()

    def estimated(chosen):
        part = vectors[:, chosen]
        singles = torch.einsum("and,bnd->ab", part, part) / len(chosen)
        means = part.mean(1)
        return products_over_all(means @ means.T, singles, len(chosen), 6)

    probes = [estimated(list(chosen)) for chosen in itertools.combinations(range(6), 4)]
    means = vectors.mean(1)
    assert torch.stack(probes).mean(0).numpy() == pytest.approx((means @ means.T).numpy())
    assert estimated(list(range(6))).numpy() == pytest.approx((means @ means.T).numpy())


def in_chunks(gradients, size, first):
    """As a task gives them: in parts of the samples, each of two parameters."""
    return ([part[:, :first, None], part[:, first:]] for part in gradients.split(size))


def test_chunks_and_parameters_do_not_matter():
    gradients = torch.randn(50, 7, generator=torch.Generator().manual_seed(2))
    table = ScoreTable.from_losses(random_losses(50))
    counts = influence_of(InfoBatch(), table, request, torch.arange(50))
    whole = estimate_noise([[gradients]], counts, 80)
    parts = estimate_noise(in_chunks(gradients, 8, first=3), counts, 80)
    assert parts.ratio == pytest.approx(whole.ratio, rel=1e-5)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_be_measured(name):
    policy = made(POLICIES[name], 200)
    table = table_of(random_losses(200), policy)
    gradients = torch.randn(200, 5, generator=torch.Generator().manual_seed(3)) + 0.5
    noise = noise_of(policy, gradients * table["last_loss"][:, None], table)
    assert 0.2 < noise.ratio < 5
    assert 0 <= noise.bias < 1 if isinstance(policy, BiasedPolicy) else noise.bias == 0


def test_gradients_of_no_size_have_no_noise_to_compare_with():
    noise = noise_of(InfoBatch(), torch.zeros(4, 2))
    assert noise.ratio is None
    assert noise.bias is None


@pytest.mark.parametrize("options", [{}, {"policy": "rs2"}, {"cutmix": 1.0, "ema_decay": 0.9}])
def test_measuring_leaves_no_trace(data, tmp_path, options):
    config = replace(PROBED, **options)
    plain = trained(config, data, tmp_path / "plain")
    probed = trained(replace(config, probe=100), data, tmp_path / "probed")
    weights = [(folder.path / "model.safetensors").read_bytes() for folder in (plain, probed)]
    assert weights[0] == weights[1]
    scores = [folder.scores() for folder in (plain, probed)]
    assert all(torch.equal(scores[0][name], scores[1][name]) for name in scores[0])
    apart = {"seconds": 0, "noise_ratio": None, "bias": None}
    metrics = [[replace(m, **apart) for m in folder.metrics()] for folder in (plain, probed)]
    assert metrics[0] == metrics[1]


def test_what_is_measured_is_of_the_epoch_that_comes_next(data, tmp_path):
    config = replace(PROBED, probe=100, epochs=6, delta=0.7, eval_every=2)
    metrics = trained(config, data, tmp_path / "a").metrics()
    pruned = [m.num_kept < m.num_samples for m in metrics]
    assert pruned == [False, True, True, True, True, False]
    assert [m.effective_share is not None for m in metrics] == pruned
    assert all(0.5 < m.effective_share <= 1 for m in metrics if m.effective_share)
    # After epochs 2 and 4 of 6, but not after the last; the epochs that follow are the third and fifth.
    assert [m.noise_ratio is not None for m in metrics] == [False, True, False, True, False, False]
    again = trained(replace(config, eval_every=1), data, tmp_path / "b").metrics()
    assert again[3].noise_ratio == metrics[3].noise_ratio
    assert again[5].noise_ratio is again[4].noise_ratio is None  # the sixth epoch trains on all
    random = trained(replace(config, policy="random"), data, tmp_path / "c").metrics()
    assert random[1].noise_ratio == pytest.approx(1)
