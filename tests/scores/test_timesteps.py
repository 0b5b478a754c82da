"""Losses relative to what is usual at the timesteps that were drawn for them."""

import pytest
import torch

from infobatch import DynamicPruner
from infobatch.scores import TimestepScores


def test_a_loss_is_divided_by_the_mean_of_its_timesteps():
    """Two halves of ten timesteps; the second batch finds the first's sums halved."""
    normalize = TimestepScores(10, num_bins=2, memory=2)
    scores = normalize(torch.tensor([1.0, 3.0, 10.0]), torch.tensor([0, 4, 5]))
    assert scores.tolist() == [0.5, 1.5, 1.0]
    scores = normalize(torch.tensor([6.0, 10.0]), torch.tensor([1, 9]))
    # (4 / 2 + 6) / (2 / 2 + 1) = 4 and (10 / 2 + 10) / (1 / 2 + 1) = 10
    assert scores.tolist() == [1.5, 1.0]
    assert normalize.usual.tolist() == [4.0, 10.0]


def test_what_is_left_is_the_samples_own():
    """Where a loss is a factor of the sample's times one of the timestep's, scores order the samples."""
    generator = torch.Generator().manual_seed(0)
    own = torch.linspace(0.5, 1.5, 64)
    normalize = TimestepScores(100, num_bins=100, memory=1000)
    for _ in range(200):
        timesteps = torch.randint(100, (64,), generator=generator)
        losses = own * (0.01 + 0.99**timesteps)
        scores = normalize(losses, timesteps)
    assert torch.corrcoef(torch.stack([own, scores]))[0, 1] > 0.97
    assert torch.corrcoef(torch.stack([own, losses]))[0, 1] < 0.8
    assert scores.mean() == pytest.approx(1, abs=0.1)


def test_fractions_of_time_fall_into_bins_too():
    normalize = TimestepScores(1, num_bins=4)
    times = torch.tensor([0.0, 0.2, 0.3, 0.999, 1.0])
    scores = normalize(torch.tensor([1.0, 3.0, 7.0, 2.0, 2.0]), times)
    assert scores.tolist() == [0.5, 1.5, 1.0, 1.0, 1.0]
    assert normalize.usual.isnan().tolist() == [False, False, True, False]


def test_a_loss_that_is_not_finite_spoils_no_mean():
    normalize = TimestepScores(10, num_bins=1)
    scores = normalize(torch.tensor([1.0, torch.nan, torch.inf]), torch.tensor([0, 1, 2]))
    assert scores[0] == 1
    assert not scores[1:].isfinite().any()
    assert normalize.usual.tolist() == [1.0]


def test_losses_of_nothing_have_finite_scores():
    assert TimestepScores(10)(torch.zeros(3), torch.arange(3)).tolist() == [0, 0, 0]


def test_scores_are_float32_and_no_gradient_flows_through_them():
    losses = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    scores = TimestepScores(10)(losses, torch.tensor([0, 9]))
    assert scores.dtype == torch.float32
    assert not scores.requires_grad


def test_a_loaded_state_goes_on_where_it_was_taken():
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.rand(16, generator=generator), torch.randint(1000, (16,), generator=generator))
        for _ in range(6)
    ]
    whole, resumed = TimestepScores(1000), TimestepScores(1000)
    for batch in batches[:3]:
        whole(*batch)
    state = whole.state_dict()
    resumed.load_state_dict(state)
    kept = {name: values.clone() for name, values in state.items()}
    for batch in batches[3:]:
        assert torch.equal(whole(*batch), resumed(*batch))
    assert all(torch.equal(state[name], kept[name]) for name in kept), "the state changed afterwards"


def test_a_fresh_state_can_be_saved_and_loaded():
    normalize = TimestepScores(10)
    normalize.load_state_dict(TimestepScores(10).state_dict())
    assert normalize(torch.ones(2), torch.zeros(2)).tolist() == [1, 1]


def test_the_pruner_remembers_the_scores_and_weighs_the_losses():
    pruner = DynamicPruner(range(8), 2)
    normalize = TimestepScores(1000)
    loader = pruner.loader(batch_size=4)
    next(pruner.epochs())
    indices, _ = next(iter(loader))
    losses, timesteps = torch.tensor([1.0, 2.0, 3.0, 6.0]), torch.tensor([1, 1, 1, 1])
    loss = pruner.update(losses, indices, scores=normalize(losses, timesteps))
    assert loss == losses.mean()
    assert pruner.scores["last_loss"][indices].tolist() == (losses / 3).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_timesteps": 0}, "num_timesteps is 0; it must be above 0"),
        ({"num_timesteps": float("inf")}, "num_timesteps is inf"),
        ({"num_timesteps": 10, "num_bins": 0}, "num_bins is 0; it must be at least 1"),
        ({"num_timesteps": 10, "memory": 0}, "memory is 0; it must be at least 1 batch"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TimestepScores(**options)


def test_bad_calls_are_refused():
    normalize = TimestepScores(10)
    with pytest.raises(ValueError, match=r"losses have shape \(2,\) and timesteps \(3,\)"):
        normalize(torch.ones(2), torch.zeros(3))
    with pytest.raises(ValueError, match="the timesteps are on meta and the losses on cpu"):
        normalize(torch.ones(2), torch.zeros(2, device="meta"))
    with pytest.raises(ValueError, match="the state has 5 bins of timesteps, and num_bins is 50"):
        normalize.load_state_dict(TimestepScores(10, num_bins=5).state_dict())
