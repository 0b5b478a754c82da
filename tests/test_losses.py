"""Losses and signals for each sample are those that PyTorch averages."""

import pytest
import torch
import torch.nn.functional as F

from infobatch import (
    classification_gradient_norms,
    classification_losses,
    classification_margins,
    output_gradient_norms,
    segmentation_losses,
    sequence_losses,
)
from infobatch.losses import classification_confidences


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
    targets = torch.rand(5, 4).softmax(1) if mixed else torch.tensor([0, 1, 2, 3, -100])
    options = {"label_smoothing": smoothing, "class_weights": weights}
    losses = classification_losses(logits, targets, **options)
    (gradients,) = torch.autograd.grad(losses.sum(), logits)
    norms = classification_gradient_norms(logits, targets, **options)
    assert torch.allclose(norms, gradients.norm(dim=1), atol=1e-6)
    assert not norms.requires_grad


TARGETS = torch.randint(2, (6, 4)).float()
LABELS = TARGETS.long()[:, 0]
WHATEVER = {
    "classes": lambda z: classification_losses(z, LABELS),
    "class weights": lambda z: F.cross_entropy(z, LABELS, torch.rand(4) + 1, reduction="none"),
    "positive weight": lambda z: F.binary_cross_entropy_with_logits(
        z[:, 0], TARGETS[:, 0], pos_weight=torch.tensor(9), reduction="none"
    ),
    "several labels": lambda z: F.binary_cross_entropy_with_logits(z, TARGETS, reduction="none").mean(1),
    "squared errors": lambda z: F.mse_loss(z, TARGETS, reduction="none").sum(1),
    "focal": lambda z: (1 - z.softmax(1)[:, 0]) ** 2 * F.cross_entropy(z, LABELS, reduction="none"),
}


@pytest.mark.parametrize("losses_of", WHATEVER.values(), ids=WHATEVER)
def test_output_gradient_norms_are_those_of_single_samples_for_any_loss(losses_of):
    outputs = torch.randn(6, 4, requires_grad=True)
    losses = losses_of(outputs)
    norms = output_gradient_norms(losses, outputs)
    alone = [torch.autograd.grad(loss, outputs, retain_graph=True)[0].norm() for loss in losses]
    assert torch.allclose(norms, torch.stack(alone), atol=1e-6)
    assert (norms.dtype, norms.requires_grad, outputs.grad) == (torch.float32, False, None)
    losses.sum().backward()  # the graph is there still
    assert torch.allclose(outputs.grad.norm(dim=1), norms, atol=1e-6)


def test_outputs_may_be_scalars_sequences_or_several():
    scalars, hidden = torch.randn(5, requires_grad=True), torch.randn(5, 3, 2, requires_grad=True)
    losses = scalars.square() + hidden.square().sum((1, 2))
    both = 2 * torch.cat([scalars[:, None], hidden.flatten(1)], 1).norm(dim=1)
    assert torch.allclose(output_gradient_norms(losses, scalars), 2 * scalars.abs())
    assert torch.allclose(output_gradient_norms(losses, scalars, hidden), both)
    unused = torch.randn(5, 7, requires_grad=True)
    assert torch.allclose(output_gradient_norms(losses, scalars, hidden, unused, TARGETS[:5]), both)
    none = hidden[:0]
    assert output_gradient_norms(none.sum((1, 2)), none).shape == (0,)


def test_output_gradient_norms_of_half_precision_do_not_overflow():
    outputs = torch.zeros(2, 4, dtype=torch.float16, requires_grad=True)
    losses = (outputs.float() * 60_000).sum(1)
    assert output_gradient_norms(losses, outputs).tolist() == [120_000] * 2


def test_outputs_that_the_losses_do_not_come_from_are_refused():
    outputs = torch.randn(6, 4, requires_grad=True)
    losses = F.cross_entropy(outputs, LABELS, reduction="none")
    for args in [(losses.detach(), outputs), (losses, outputs.detach()), (losses, outputs.clone())]:
        with pytest.raises(ValueError, match="losses have no gradient in the outputs; call it before"):
            output_gradient_norms(*args)
    tokens = outputs.view(3, 2, 4)
    with pytest.raises(ValueError, match=r"6 losses, and outputs of shape \(3, 2, 4\); give outputs of"):
        output_gradient_norms(losses, tokens)


def test_confidences_are_the_probabilities_of_the_own_class():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]))
    labels = torch.tensor([0, 2])
    assert classification_confidences(logits, labels).tolist() == pytest.approx([0.7, 0.25])
    mixed = torch.tensor([[0.5, 0.5, 0], [1.0, 0, 0]])
    assert classification_confidences(logits, mixed).tolist() == pytest.approx([0.45, 0.5])


def test_a_sample_without_a_label_has_no_loss_and_nothing_that_is_known():
    logits, labels = torch.randn(3, 4), torch.tensor([1, -100, 2])
    assert classification_losses(logits, labels)[1] == 0
    for signal in (classification_confidences, classification_margins):
        assert signal(logits, labels).isnan().tolist() == [False, True, False]


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
