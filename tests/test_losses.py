"""Losses and signals for each sample are those that PyTorch averages."""

import pytest
import torch
import torch.nn.functional as F

from infobatch import (
    classification_confidences,
    classification_gradient_norms,
    classification_losses,
    segmentation_losses,
    sequence_losses,
)


def test_classification_losses_average_to_cross_entropy():
    logits, labels = torch.randn(16, 5), torch.randint(5, (16,))
    ours = classification_losses(logits, labels, label_smoothing=0.1)
    assert ours.shape == (16,)
    assert torch.allclose(ours.mean(), F.cross_entropy(logits, labels, label_smoothing=0.1))
    weights = torch.rand(5)
    weighted = classification_losses(logits, labels, class_weights=weights)
    assert torch.allclose(weighted, classification_losses(logits, labels) * weights[labels])
    renormalized = weighted.sum() / weights[labels].sum()
    assert torch.allclose(renormalized, F.cross_entropy(logits, labels, weight=weights))


def test_a_loss_does_not_depend_on_its_batch_mates():
    logits, labels = torch.randn(6, 5), torch.randint(5, (6,))
    options = {"label_smoothing": 0.1, "class_weights": torch.rand(5)}
    together = classification_losses(logits, labels, **options)
    for i in range(6):
        (alone,) = classification_losses(logits[i : i + 1], labels[i : i + 1], **options)
        assert torch.allclose(alone, together[i])


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


@pytest.mark.parametrize("spatial", [(9,), (3, 4), (2, 3, 4)])
def test_segmentation_losses_with_smoothing_and_class_weights(spatial):
    logits, targets = torch.randn(2, 4, *spatial), torch.randint(4, (2, *spatial))
    targets.flatten(1)[:, :5] = 7
    weights = torch.rand(4)
    smoothed = segmentation_losses(logits, targets, ignore_index=7, label_smoothing=0.2)
    weighted = segmentation_losses(logits, targets, ignore_index=7, class_weights=weights)
    for i in range(2):
        pixels = targets[i] != 7
        rows, wanted = logits[i].movedim(0, -1)[pixels], targets[i][pixels]
        assert torch.allclose(smoothed[i], F.cross_entropy(rows, wanted, label_smoothing=0.2))
        each = F.cross_entropy(rows, wanted, weight=weights, reduction="none")
        assert torch.allclose(weighted[i], each.mean())


def test_sequence_losses_with_smoothing():
    logits, labels = torch.randn(2, 6, 5), torch.randint(5, (2, 6))
    labels[0, 3:] = -1
    losses = sequence_losses(logits, labels, ignore_index=-1, label_smoothing=0.3)
    expected = F.cross_entropy(logits[0, :3], labels[0, :3], label_smoothing=0.3)
    assert torch.allclose(losses[0], expected)


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1, 2, 4])], ids=["equal", "weighted"])
def test_gradient_norms_are_those_of_the_gradient_in_the_logits(smoothing, mixed, weights):
    torch.manual_seed(0)
    logits = torch.randn(5, 4, requires_grad=True)
    targets = torch.rand(5, 4).softmax(1) if mixed else torch.tensor([0, 1, 2, 3, 3])
    options = {"label_smoothing": smoothing, "class_weights": weights}
    losses = classification_losses(logits, targets, **options)
    (gradients,) = torch.autograd.grad(losses.sum(), logits)
    norms = classification_gradient_norms(logits, targets, **options)
    assert torch.allclose(norms, gradients.norm(dim=1), atol=1e-6)
    assert not norms.requires_grad


def test_confidences_are_the_probabilities_of_the_own_class():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]))
    labels = torch.tensor([0, 2])
    assert classification_confidences(logits, labels).tolist() == pytest.approx([0.7, 0.25])
    mixed = torch.tensor([[0.5, 0.5, 0], [1.0, 0, 0]])
    assert classification_confidences(logits, mixed).tolist() == pytest.approx([0.45, 0.5])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_over_pixels_and_tokens_are_more_than_half_precision_holds(dtype):
    logits = torch.randn(1, 4, 300, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    targets = torch.zeros(1, 300, 300, dtype=torch.int64)
    expected = segmentation_losses(logits.float(), targets)
    assert expected * targets.numel() > torch.finfo(torch.float16).max
    losses = segmentation_losses(logits.requires_grad_(), targets)
    torch.testing.assert_close(losses, expected, rtol=2e-3, atol=0)
    losses.sum().backward()
    assert logits.grad.isfinite().all()
    tokens = logits.detach().flatten(2).transpose(1, 2)
    of_sequence = sequence_losses(tokens, targets.flatten(1))
    torch.testing.assert_close(of_sequence, expected, rtol=2e-3, atol=0)
