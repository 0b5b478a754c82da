"""Prior scores: those known before the first epoch, which is pruned by them."""

import numpy as np
import pytest
import torch

from helpers import Numbers, by_the_paper, new_pruner, random_losses, record_epoch
from infobatch import DynamicPruner, InfoBatch, Neyman, NoiseBudget, NoPruning, Sharded
from infobatch.noise import norms_of_losses
from infobatch.policies import Proportional
from infobatch.scores import ScoreTable
from infobatch.selection import select

N = 400


LOSSES = random_losses(N)


def pruner(scores=LOSSES, **options):
    options = {"warmup_epochs": 0, **by_the_paper(options)}
    return DynamicPruner(Numbers(len(LOSSES)), 6, prior_scores=scores, **options)


def test_the_first_epoch_is_pruned_by_them():
    made = pruner()
    weights = made.selection.weights
    above = LOSSES.mean() <= LOSSES
    assert (weights[above] == 1).all()
    assert made.selection.num_selected == N - round(0.5 * int((~above).sum()))
    assert made.scores["visits"].sum() == 0
    assert torch.equal(made.scores["last_loss"], LOSSES)
    np.testing.assert_allclose(weights.sum(), N, rtol=1e-6)


def test_a_tensor_a_table_and_a_file_are_the_same(tmp_path):
    path = pruner().export(tmp_path / "scores.npz")
    for given in (LOSSES.double(), ScoreTable.from_losses(LOSSES), path, str(path)):
        assert torch.equal(pruner(given).selection.weights, pruner().selection.weights)


@pytest.mark.parametrize(
    "kind", [NoiseBudget(), NoiseBudget(by="smoothed_norm"), Proportional(by="gradient_norm")], ids=repr
)
def test_norms_are_those_of_the_scores_where_they_have_any(kind, tmp_path):
    norms = LOSSES.flip(0).clamp(max=1.4)
    before = DynamicPruner(Numbers(N), 2, policy=kind)
    loader = before.loader(50)
    for indices, _ in loader:
        before.update(LOSSES[indices], indices, gradient_norms=norms[indices])
    path = before.export(tmp_path / "scores.npz")
    made = pruner(path, policy=NoiseBudget(1.5))
    assert torch.equal(made.scores["recent_norms"][:, -1], norms)
    followed = pruner(LOSSES, policy=NoiseBudget(1.5))
    assert torch.equal(followed.scores["recent_norms"][:, -1], norms_of_losses(LOSSES, "cross-entropy"))
    assert not torch.equal(made.selection.weights, followed.selection.weights)


@pytest.mark.parametrize("by", ["gradient_norm", "smoothed_norm"])
def test_norms_that_they_have_prune_the_first_epoch_and_none_are_made_up(by, tmp_path):
    policy = Proportional(by=by, floor=0.01)
    before = DynamicPruner(Numbers(N), 2, policy=policy)
    loader = before.loader(50)
    for indices, _ in loader:
        before.update(LOSSES[indices], indices, gradient_norms=LOSSES.flip(0)[indices])
    made = pruner(before.export(tmp_path / "scores.npz"), policy=policy)
    assert torch.equal(made.scores[by], LOSSES.flip(0))
    assert (made.selection.weights[LOSSES.flip(0).argsort()[-20:]] > 0).all()
    with pytest.warns(UserWarning, match="prior_scores have no effect"):
        assert pruner(policy=policy).scores[by].isnan().all()


def test_what_is_unknown_is_as_it_is_without_scores():
    """Samples without a score are never left out."""
    some = torch.where(torch.arange(N) % 3 > 0, LOSSES, float("nan"))
    assert (pruner(some).selection.weights[::3] == 1).all()
    assert pruner(some).selection.num_selected < N
    assert pruner(None).selection.num_selected == N


def test_infinite_losses_are_unknown_and_the_tensor_stays_as_it_was():
    losses = LOSSES.clone()
    losses[0] = float("inf")
    made = pruner(losses)
    assert made.scores["last_loss"][0].isnan()
    assert made.report().num_nonfinite == 0
    record_epoch(made, torch.zeros(N))
    assert torch.equal(losses[1:], LOSSES[1:])


@pytest.mark.parametrize("policy", [Proportional(by="smoothed_loss"), Neyman()], ids=repr)
def test_smoothed_scores_begin_with_them(policy):
    made = pruner(policy=policy, target=0.3)
    assert torch.equal(made.scores["smoothed_loss"], LOSSES)
    assert made.selection.num_selected < N


def test_a_loaded_state_has_newer_ones():
    first = pruner()
    for _ in zip(range(3), first.epochs(), strict=False):
        record_epoch(first, 2 * LOSSES)
    second = pruner(torch.zeros(N))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.scores["last_loss"], first.scores["last_loss"])
    assert torch.equal(second.selection.weights, first.selection.weights)
    for number in first.epochs():
        record_epoch(first, LOSSES)
        assert number in (3, 4, 5)
    for _ in second.epochs():
        record_epoch(second, LOSSES)
    assert torch.equal(second.selection.weights, first.selection.weights)


def test_the_first_epoch_goes_on_in_its_middle():
    first, second = pruner(), pruner()
    half = first.current.order[: len(first.current.order) // 2]
    first.record(LOSSES[half], half.numpy())
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.selection.weights, first.selection.weights)
    assert set(second.current.resume_order.tolist()).isdisjoint(half.tolist())


def test_it_is_predicted_what_they_save_before_an_epoch():
    expected = (
        1
        - select(
            InfoBatch(),
            ScoreTable.from_losses(LOSSES),
            pruner().plan.request(0, torch.Generator().manual_seed(0)),
        ).num_selected
        / N
    )
    assert pruner().predict_saving().epoch == pytest.approx(expected)


def test_sharded_scores_are_pruned_by_them_too():
    whole = pruner(layout=Sharded(num_shards=4))
    assert whole.current.num_trained == pruner().current.num_trained < N
    weights = torch.zeros(N)
    for rank in range(2):
        made = pruner(layout=Sharded(4, reduce=lambda values: values), rank=rank, num_replicas=2)
        held = made._store.shards
        for column, part in enumerate(held.parts()):
            assert torch.equal(made.scores["last_loss"][part], LOSSES[held.indices(column)])
            weights[held.indices(column)] += 1
    assert (weights == 1).all()


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (
            LOSSES[:7],
            ValueError,
            r"prior_scores have shape \(7,\), and the dataset has 400 samples; give one",
        ),
        (LOSSES[:, None], ValueError, r"prior_scores have shape \(400, 1\)"),
        (torch.full((N,), float("nan")), ValueError, "all NaN or infinite, so that nothing is known"),
        (torch.zeros(N, dtype=torch.int64), TypeError, r"dtype torch\.int64; they must be floating"),
        (LOSSES.tolist(), TypeError, "prior_scores are a list; give a ScoreTable, a tensor"),
        ("nowhere.npz", FileNotFoundError, r"no file nowhere\.npz"),
    ],
)
def test_bad_scores_are_refused(scores, error, message):
    with pytest.raises(error, match=message):
        pruner(scores)


def test_bad_files_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "other.npz", loss=LOSSES.numpy())
    with pytest.raises(ValueError, match=r"other\.npz has columns loss, but no 'last_loss'"):
        pruner(tmp_path / "other.npz")
    np.savez(tmp_path / "short.npz", last_loss=LOSSES.numpy()[:5])
    with pytest.raises(ValueError, match=r"prior_scores of .*short\.npz have shape \(5,\)"):
        pruner(tmp_path / "short.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_epochs": 1}, "warmup_epochs is 1, .* set warmup_epochs=0 to prune the first epoch"),
        ({"policy": NoPruning()}, "does not go by losses"),
        (
            {"policy": Proportional(by="gradient_norm"), "target": 0.2},
            "goes by norms of gradients, and these are losses alone; give the exported scores",
        ),
    ],
)
def test_scores_without_effect_are_warned_of(options, message):
    with pytest.warns(UserWarning, match=message):
        pruner(**options)


@pytest.mark.parametrize("options", [{"target": 0.5}, {"policy": NoiseBudget(max_noise=1.1)}], ids=str)
def test_a_look_before_the_loader_is_made_changes_nothing(options):
    losses = torch.rand(1000, generator=torch.Generator().manual_seed(0))

    def selected(looks):
        pruner = new_pruner(size=1000, warmup_epochs=0, prior_scores=losses, **options)
        if looks:
            pruner.report()
        pruner.loader(50)
        return pruner.selection.indices, pruner.scores

    (indices, scores), (after_a_look, scores_then) = selected(False), selected(True)
    assert torch.equal(indices, after_a_look)
    for name in scores.columns:
        assert torch.equal(scores[name].nan_to_num(-1), scores_then[name].nan_to_num(-1)), name
