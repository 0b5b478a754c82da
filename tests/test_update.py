"""The loop's one call: weighted mean out, scores in."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import Numbers, random_losses, record_epoch
from infobatch import (
    DynamicPruner,
    InfoBatch,
    classification_losses,
    segmentation_losses,
    sequence_losses,
    weighted_mean,
)
from infobatch.scores import LossBuffer


def in_pruned_epoch(**options):
    pruner = DynamicPruner(Numbers(100), 10, **options)
    pruner.sampler(8)
    record_epoch(pruner, random_losses(100))
    pruner.set_epoch(1)
    return pruner, pruner.current.order[:8].numpy()


def test_the_value_is_the_weighted_sum_over_the_batch_count():
    pruner, samples = in_pruned_epoch()
    losses = torch.rand(8)
    weights = pruner.weights(samples)
    assert weights.max() > 1
    assert float(pruner.update(losses, samples)) == pytest.approx(float((weights * losses).sum() / 8))


def test_the_value_may_be_over_the_sum_of_weights():
    pruner, samples = in_pruned_epoch(normalizer="weights")
    losses = torch.rand(8)
    weights = pruner.weights(samples)
    expected = float((weights * losses).sum() / weights.sum())
    assert float(pruner.update(losses, samples)) == pytest.approx(expected)
    assert float(weighted_mean(losses, torch.zeros(8), "weights")) == 0


def test_with_weights_1_it_is_the_mean_bit_for_bit():
    pruner = DynamicPruner(Numbers(100), 10)
    pruner.sampler(8)
    for size in (1, 7, 100):
        losses = torch.rand(size, requires_grad=True)
        other = losses.detach().clone().requires_grad_()
        ours, plain = pruner.update(losses, range(size)), other.mean()
        assert torch.equal(ours, plain)
        ours.backward()
        plain.backward()
        assert torch.equal(losses.grad, other.grad)


def test_the_gradient_of_a_loss_is_its_weight_over_the_count():
    pruner, samples = in_pruned_epoch()
    losses = torch.rand(8, requires_grad=True)
    pruner.update(losses, samples).backward()
    assert torch.allclose(losses.grad, pruner.weights(samples) / 8)


def test_update_is_weigh_and_record():
    one, samples = in_pruned_epoch()
    other, _ = in_pruned_epoch()
    losses = torch.rand(8)
    value = one.update(losses, samples)
    assert torch.equal(value, other.weigh(losses, samples))
    assert other.progress == 0.1
    other.record(losses, samples)
    assert one.progress == other.progress > 0.1
    assert torch.equal(one.scores["last_loss"], other.scores["last_loss"])


def test_a_step_evaluated_twice_records_once():
    pruner, samples = in_pruned_epoch()
    first, second = torch.rand(8), torch.rand(8)
    visits = pruner.scores["visits"].clone()
    pruner.weigh(first, samples)
    pruner.record(first, samples)
    pruner.weigh(second, samples)
    assert torch.equal(pruner.scores["last_loss"][samples], first)
    assert (pruner.scores["visits"] - visits).sum() == 8


def test_indices_may_be_an_array_a_tensor_or_a_list():
    pruner, samples = in_pruned_epoch()
    losses = torch.rand(8)
    values = [
        float(pruner.update(losses, kind))
        for kind in (samples, torch.from_numpy(samples), samples.tolist(), samples.astype(np.int32))
    ]
    assert len(set(values)) == 1


def test_under_autocast():
    pruner, samples = in_pruned_epoch()
    model = torch.nn.Linear(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(8, 3))
        losses = F.cross_entropy(logits, torch.zeros(8, dtype=torch.long), reduction="none")
        pruner.update(losses, samples).backward()
    assert torch.equal(pruner.scores["last_loss"][samples], losses.detach().float())
    assert model.weight.grad.isfinite().all()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's
def test_inside_a_compiled_step(backend):
    pruner, samples = in_pruned_epoch()
    inputs, weight = torch.randn(8, 3), torch.ones(3, requires_grad=True)

    def step(samples):
        losses = (inputs @ weight).square()
        return pruner.update(losses, samples)

    expected = float((pruner.weights(samples) * inputs.sum(1).square()).mean())
    loss = torch.compile(step, backend=backend)(samples)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(pruner.scores["last_loss"][samples], inputs.sum(1).square())


def test_accumulation_adds_up_to_the_whole_batch():
    pruner, samples = in_pruned_epoch()
    whole, parts = torch.rand(8, requires_grad=True), []
    pruner.weigh(whole, samples).backward()
    for half in (slice(0, 4), slice(4, 8)):
        part = whole.detach()[half].requires_grad_()
        (pruner.update(part, samples[half]) / 2).backward()
        parts.append(part.grad)
    assert torch.allclose(torch.cat(parts), whole.grad)


def test_samples_without_a_score_keep_their_old_one():
    pruner, samples = in_pruned_epoch()
    before = pruner.scores["last_loss"].clone()
    scored = torch.tensor([True] * 6 + [False] * 2)
    pruner.update(torch.rand(8), samples, scored=scored)
    assert torch.equal(pruner.scores["last_loss"][samples[6:]], before[samples[6:]])
    assert not torch.equal(pruner.scores["last_loss"][samples[:6]], before[samples[:6]])
    assert pruner.scores.num_nonfinite == 0
    assert pruner.current.num_recorded == 8


def test_bad_losses_are_counted_and_reported():
    pruner, samples = in_pruned_epoch()
    losses = torch.tensor([float("nan"), float("inf")] + [1.0] * 6)
    before = pruner.scores["last_loss"][samples[:2]].clone()
    assert pruner.update(losses, samples).isnan()
    assert torch.equal(pruner.scores["last_loss"][samples[:2]], before)
    assert "2 losses were NaN or infinite" in str(pruner.report())


def test_a_finite_batch_close_to_overflow_is_scored():
    pruner, samples = in_pruned_epoch()
    pruner.update(torch.full((8,), 1e30), samples)
    assert (pruner.scores["last_loss"][samples] == torch.tensor(1e30)).all()
    assert pruner.scores.num_nonfinite == 0


@pytest.mark.parametrize("sizes", [[3, 3, 3], [10], [4, 4], [25, 1], [1] * 9])
def test_a_buffer_delivers_everything_in_order(sizes, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    taken = []
    buffer = LossBuffer(lambda indices, losses: taken.append((indices, losses.copy())), capacity=4)
    fed = 0
    for size in sizes:
        buffer.put(np.arange(fed, fed + size), torch.arange(fed, fed + size).double())
        fed += size
    buffer.drain()
    assert np.concatenate([indices for indices, _ in taken]).tolist() == list(range(fed))
    assert np.concatenate([losses for _, losses in taken]).tolist() == list(range(fed))


def test_classification_losses_average_to_cross_entropy():
    logits, labels = torch.randn(16, 5), torch.randint(5, (16,))
    ours = classification_losses(logits, labels, label_smoothing=0.1)
    assert ours.shape == (16,)
    assert torch.allclose(ours.mean(), F.cross_entropy(logits, labels, label_smoothing=0.1))
    weights = torch.rand(5)
    weighted = classification_losses(logits, labels, class_weights=weights)
    assert torch.allclose(weighted, classification_losses(logits, labels) * weights[labels])


def test_soft_targets_mix_the_losses_of_both_labels():
    logits = torch.randn(6, 4)
    a, b = torch.randint(4, (6,)), torch.randint(4, (6,))
    soft = 0.3 * F.one_hot(a, 4) + 0.7 * F.one_hot(b, 4)
    mixed = 0.3 * classification_losses(logits, a) + 0.7 * classification_losses(logits, b)
    assert torch.allclose(classification_losses(logits, soft), mixed)


def test_segmentation_losses_average_over_valid_pixels():
    logits = torch.randn(3, 4, 5, 6, requires_grad=True)
    targets = torch.randint(4, (3, 5, 6))
    targets[0, :2] = 255
    targets[2] = 255
    losses = segmentation_losses(logits, targets)
    for i in (0, 1):
        alone = F.cross_entropy(logits[i : i + 1], targets[i : i + 1], ignore_index=255)
        assert torch.allclose(losses[i], alone)
    assert losses[2] == 0
    losses.sum().backward()
    assert (logits.grad[2] == 0).all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("shift", [False, True])
def test_sequence_losses_average_over_supervised_tokens(shift):
    logits = torch.randn(3, 7, 11, requires_grad=True)
    labels = torch.randint(11, (3, 7))
    labels[0, 4:] = -100
    labels[2] = -100
    losses = sequence_losses(logits, labels, shift=shift)
    for i in (0, 1):
        rows, wanted = (logits[i, :-1], labels[i, 1:]) if shift else (logits[i], labels[i])
        assert torch.allclose(losses[i], F.cross_entropy(rows, wanted))
    assert losses[2] == 0
    losses.sum().backward()
    assert (logits.grad[2] == 0).all()


def test_prune_ratio_0_gives_weight_1_everywhere():
    pruner, _ = in_pruned_epoch(policy=InfoBatch(0))
    assert (pruner.selection.weights == 1).all()
