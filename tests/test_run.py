"""The loop's one call: weighted mean out, scores in."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import Numbers, batched_pruner, in_pruned_epoch, random_losses, train_epoch
from infobatch import DynamicPruner, InfoBatch, segmentation_losses, weighted_mean
from infobatch.policies import Proportional


def test_the_value_estimates_the_mean_on_all_data():
    pruner, indices = in_pruned_epoch()
    losses = torch.rand(8)
    weights = pruner.weights(indices)
    assert weights.max() > 1
    expected = (weights * losses).mean() / pruner.mean_weight
    assert float(pruner.update(losses, indices)) == pytest.approx(float(expected))


@pytest.mark.parametrize("normalizer", ["batch", "mean", "weights"])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_losses_that_do_not_change_show_as_a_mean_that_does_not_change(normalizer, shrink):
    pruner = DynamicPruner(Numbers(1000), 4, policy=InfoBatch(), normalizer=normalizer, shrink=shrink)
    loader, fixed = pruner.loader(100), torch.linspace(0, 2, 1000)
    shown = [
        np.mean([pruner.update(fixed[indices], indices).item() for indices, _ in loader])
        for _ in pruner.epochs()
    ]
    assert pruner.report().saved > 0.1
    assert max(shown) < 1.03 * min(shown)
    assert pruner.mean_loss == pytest.approx(1)


def test_the_value_may_be_over_the_sum_of_weights():
    pruner, indices = in_pruned_epoch(normalizer="weights")
    losses = torch.rand(8)
    weights = pruner.weights(indices)
    expected = float((weights * losses).sum() / weights.sum())
    assert float(pruner.update(losses, indices)) == pytest.approx(expected)
    assert float(weighted_mean(losses, torch.zeros(8), "weights")) == 0


def test_the_gradient_of_a_loss_is_its_weight_over_the_count():
    pruner, indices = in_pruned_epoch()
    losses = torch.rand(8, requires_grad=True)
    pruner.update(losses, indices).backward()
    assert torch.allclose(losses.grad, pruner.weights(indices) / 8)


def test_update_is_weigh_and_record():
    one, indices = in_pruned_epoch()
    other, _ = in_pruned_epoch()
    losses = torch.rand(8)
    value = one.update(losses, indices)
    assert torch.equal(value, other.shown(other.weigh(losses, indices)))
    assert other.progress == 0.1
    other.record(losses, indices)
    assert one.progress == other.progress > 0.1
    assert torch.equal(one.scores["last_loss"], other.scores["last_loss"])


def test_a_step_evaluated_twice_records_once():
    pruner, indices = in_pruned_epoch()
    first, second = torch.rand(8), torch.rand(8)
    visits = pruner.scores["visits"].clone()
    pruner.weigh(first, indices)
    pruner.record(first, indices)
    pruner.weigh(second, indices)
    assert torch.equal(pruner.scores["last_loss"][indices], first)
    assert (pruner.scores["visits"] - visits).sum() == 8


def test_the_gradient_is_weighted_at_every_evaluation_of_a_step():
    pruner, indices = in_pruned_epoch()
    shares = pruner.weights(indices) / 8
    weight = torch.tensor(2.0, requires_grad=True)
    inputs = torch.rand(8)
    first = (weight * inputs).square()
    pruner.weigh(first, indices).backward()
    pruner.record(first, indices)
    ascent = weight.grad.clone()
    assert ascent == pytest.approx(float((shares * 2 * weight.detach() * inputs.square()).sum()))
    with torch.no_grad():
        weight += 0.1
    weight.grad = None
    pruner.weigh((weight * inputs).square(), indices).backward()
    assert weight.grad == pytest.approx(float(ascent) * 2.1 / 2)
    assert torch.equal(pruner.scores["last_loss"][indices], first.detach())


def test_a_visit_is_counted_in_every_epoch_a_sample_is_trained():
    pruner = DynamicPruner(Numbers(60), 6, policy=InfoBatch())
    loader = pruner.loader(8)
    selected = torch.zeros(60, dtype=torch.int32)
    for _ in pruner.epochs():
        selected += pruner.selection.weights > 0
        train_epoch(pruner, loader, random_losses(60))
    assert torch.equal(pruner.scores["visits"], selected)
    assert len(set(selected.tolist())) > 1


def test_losses_without_a_gradient_are_taken():
    pruner, indices = in_pruned_epoch()
    with torch.no_grad():
        assert not pruner.update(torch.rand(8), indices).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_value_of_half_precision_losses_is_in_single_precision(dtype):
    pruner, indices = in_pruned_epoch()
    losses = torch.rand(8).to(dtype)
    value = pruner.update(losses, indices)
    expected = (losses.double() * pruner.weights(indices)).mean() / pruner.mean_weight
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)


def test_indices_may_be_an_array_a_tensor_or_a_list():
    pruner, indices = in_pruned_epoch()
    losses = torch.rand(8)
    values = [
        float(pruner.update(losses, kind))
        for kind in (indices, torch.from_numpy(indices), indices.tolist(), indices.astype(np.int32))
    ]
    assert len(set(values)) == 1


def test_under_autocast():
    pruner, indices = in_pruned_epoch()
    model = torch.nn.Linear(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(8, 3))
        losses = F.cross_entropy(logits, torch.zeros(8, dtype=torch.long), reduction="none")
        pruner.update(losses, indices).backward()
    assert torch.equal(pruner.scores["last_loss"][indices], losses.detach().float())
    assert model.weight.grad.isfinite().all()


def test_accumulation_adds_up_to_the_whole_batch():
    pruner, indices = in_pruned_epoch()
    whole, parts = torch.rand(8, requires_grad=True), []
    pruner.weigh(whole, indices).backward()
    for half in (slice(0, 4), slice(4, 8)):
        part = whole.detach()[half].requires_grad_()
        (pruner.update(part, indices[half]) / 2).backward()
        parts.append(part.grad)
    assert torch.allclose(torch.cat(parts), whole.grad)


def test_samples_without_a_score_keep_their_old_one():
    pruner, indices = in_pruned_epoch()
    before = pruner.scores["last_loss"].clone()
    scored = torch.tensor([True] * 6 + [False] * 2)
    pruner.update(torch.rand(8), indices, scored=scored)
    assert torch.equal(pruner.scores["last_loss"][indices[6:]], before[indices[6:]])
    assert not torch.equal(pruner.scores["last_loss"][indices[:6]], before[indices[:6]])
    assert pruner.scores.num_nonfinite == 0
    assert pruner.current.num_recorded == 8


def test_an_image_without_valid_pixels_gets_no_score():
    pruner = DynamicPruner(Numbers(20), 5, policy=InfoBatch())
    pruner.sampler(4)
    logits, targets = torch.randn(3, 4, 2, 2, requires_grad=True), torch.randint(4, (3, 2, 2))
    targets[1] = 255
    scored = (targets != 255).flatten(1).any(1)
    pruner.update(segmentation_losses(logits, targets), [4, 5, 6], scored=scored).backward()
    assert pruner.scores["last_loss"][[4, 5, 6]].isnan().tolist() == [False, True, False]
    assert pruner.scores["visits"][[4, 5, 6]].tolist() == [1, 1, 1]
    assert pruner.scores.num_nonfinite == 0
    assert logits.grad.flatten(1).abs().sum(1).gt(0).tolist() == [True, False, True]


def test_bad_losses_are_counted_and_reported():
    pruner, indices = in_pruned_epoch()
    losses = torch.tensor([float("nan"), float("inf")] + [1.0] * 6)
    before = pruner.scores["last_loss"][indices[:2]].clone()
    assert pruner.update(losses, indices).isnan()
    assert torch.equal(pruner.scores["last_loss"][indices[:2]], before)
    assert "2 losses or signals were NaN or infinite" in str(pruner.report())


def test_a_bad_loss_may_be_followed_by_a_good_one():
    pruner = DynamicPruner(Numbers(20), 5, policy=InfoBatch())
    pruner.sampler(4)
    pruner.update(torch.tensor([float("nan"), float("-inf"), 1.0]), [3, 4, 5])
    assert pruner.scores["visits"][[3, 4, 5]].tolist() == [1, 1, 1]
    assert pruner.scores.num_nonfinite == 2
    pruner.update(torch.tensor([0.5]), [3])
    assert pruner.scores["last_loss"][[3, 5]].tolist() == [0.5, 1]
    assert pruner.scores["last_loss"][4].isnan()
    assert "NaN" not in str(DynamicPruner(Numbers(20), 5, policy=InfoBatch()).report())


def test_a_finite_batch_close_to_overflow_is_scored():
    pruner, indices = in_pruned_epoch()
    pruner.update(torch.full((8,), 1e30), indices)
    assert (pruner.scores["last_loss"][indices] == torch.tensor(1e30)).all()
    assert pruner.scores.num_nonfinite == 0


def test_scores_may_be_remembered_in_place_of_losses():
    """The gradient is that of the losses; the policy sees the scores."""
    pruner = DynamicPruner(range(8), 3, policy=InfoBatch())
    losses = torch.arange(4.0, requires_grad=True)
    scores = torch.tensor([4.0, 3.0, 2.0, 1.0])
    loss = pruner.update(losses, [0, 1, 2, 3], scores=scores)
    loss.backward()
    assert loss.item() == 1.5
    assert losses.grad.tolist() == [0.25] * 4
    assert pruner.scores["last_loss"][:4].tolist() == scores.tolist()
    pruner.record(losses, [4, 5, 6, 7], scores=scores)
    assert pruner.scores["last_loss"][4:].tolist() == scores.tolist()


def test_scores_may_be_remembered_of_what_is_left_out():
    pruner, _ = in_pruned_epoch()
    left = pruner.left_out[:2]
    pruner.observe(torch.ones(2), left, scores=torch.tensor([7.0, 8.0]))
    assert pruner.scores["last_loss"][left].tolist() == [7, 8]
    with pytest.raises(ValueError, match="scores are float, and the losses of shape"):
        pruner.observe(torch.ones(2), left, scores=7.0)


def test_prune_ratio_0_gives_weight_1_everywhere():
    pruner, _ = in_pruned_epoch(policy=InfoBatch(0))
    assert (pruner.selection.weights == 1).all()


def test_signals_reach_the_columns_that_are_made_of_them(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    monkeypatch.setattr("infobatch.run.sent_to_device", lambda weights, device: weights)
    pruner = DynamicPruner(Numbers(6), 3, policy=Proportional(by="smoothed_norm"), warmup_epochs=2)
    indices = np.arange(6)
    norms = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.bfloat16)
    pruner.record(torch.ones(3), indices[3:], gradient_norms=norms[3:], confidences=torch.ones(3))
    for epoch, factor in enumerate((1, 2)):
        pruner.set_epoch(epoch)
        pruner.record(torch.ones(3) * factor, indices[:3], gradient_norms=norms[:3] * factor)
    scores = pruner.scores
    assert scores.columns == ("last_loss", "visits", "smoothed_norm")
    expected = norms.float() * torch.tensor([1.2, 1.2, 1.2, 1, 1, 1])  # 0.8 s + 0.2 (2 s)
    assert scores["smoothed_norm"].tolist() == pytest.approx(expected.tolist(), rel=1e-2)
    assert scores["last_loss"].tolist() == [2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_sample_with_a_bad_signal_keeps_what_it_had(bad):
    pruner = DynamicPruner(Numbers(3), 3, policy=Proportional(by="gradient_norm"))
    pruner.record(torch.ones(3), np.arange(3), gradient_norms=torch.tensor([1.0, bad, 3.0]))
    assert pruner.scores["gradient_norm"][[0, 2]].tolist() == [1, 3]
    assert pruner.scores["last_loss"].isnan().tolist() == [False, True, False]
    assert pruner.scores.num_nonfinite == 1


def test_signals_that_no_column_is_made_of_are_passed_over():
    pruner, indices = in_pruned_epoch()
    other, _ = in_pruned_epoch()
    losses = torch.rand(8)
    loss = pruner.update(losses, indices, gradient_norms=torch.rand(8))
    assert torch.equal(loss, other.update(losses, indices))


def test_no_samples_have_no_weights():
    assert batched_pruner().weights([]).tolist() == []


@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_relative_weights_have_the_mean_one_whatever_shrinks(shrink):
    pruner = DynamicPruner(Numbers(1000), 4, policy=InfoBatch(), shrink=shrink)
    loader = pruner.loader(10)
    train_epoch(pruner, loader, random_losses(1000))
    pruner.set_epoch(1)
    kept = pruner.selection.indices
    assert pruner.mean_weight > 1.1 or shrink == "batches"
    assert float(pruner.relative_weights(kept).mean()) == pytest.approx(1, abs=0.02)
