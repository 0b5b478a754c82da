"""The loop's one call: weighted mean out, scores in."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import Numbers, random_losses, record_epoch, train_epoch
from infobatch import (
    DynamicPruner,
    InfoBatch,
    classification_confidences,
    classification_gradient_norms,
    classification_losses,
    segmentation_losses,
    sequence_losses,
    weighted_mean,
)
from infobatch.policies import Proportional
from infobatch.scores import ScoreTable
from infobatch.scores.buffer import LossBuffer


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


def test_the_gradient_is_weighted_at_every_evaluation_of_a_step():
    pruner, samples = in_pruned_epoch()
    shares = pruner.weights(samples) / 8
    weight = torch.tensor(2.0, requires_grad=True)
    inputs = torch.rand(8)
    first = (weight * inputs).square()
    pruner.weigh(first, samples).backward()
    pruner.record(first, samples)
    ascent = weight.grad.clone()
    assert ascent == pytest.approx(float((shares * 2 * weight.detach() * inputs.square()).sum()))
    with torch.no_grad():
        weight += 0.1
    weight.grad = None
    pruner.weigh((weight * inputs).square(), samples).backward()
    assert weight.grad == pytest.approx(float(ascent) * 2.1 / 2)
    assert torch.equal(pruner.scores["last_loss"][samples], first.detach())


def test_a_visit_is_counted_in_every_epoch_a_sample_is_trained():
    pruner = DynamicPruner(Numbers(60), 6)
    loader = pruner.loader(8)
    selected = torch.zeros(60, dtype=torch.int32)
    for _ in pruner.epochs():
        selected += pruner.selection.weights > 0
        train_epoch(pruner, loader, random_losses(60))
    assert torch.equal(pruner.scores["visits"], selected)
    assert len(set(selected.tolist())) > 1


def test_losses_without_a_gradient_are_taken():
    pruner, samples = in_pruned_epoch()
    with torch.no_grad():
        assert not pruner.update(torch.rand(8), samples).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_value_of_half_precision_losses_is_in_single_precision(dtype):
    pruner, samples = in_pruned_epoch()
    losses = torch.rand(8).to(dtype)
    value = pruner.update(losses, samples)
    expected = (losses.double() * pruner.weights(samples)).mean()
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)


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


COMPILED = [
    "eager",
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler"),
        ],
    ),
]


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # inductor's
def test_with_a_compiled_model(backend):
    def train(compile_model):
        torch.manual_seed(0)
        torch.compiler.reset()
        model = torch.nn.Linear(3, 1)
        forward = torch.compile(model, backend=backend) if compile_model else model
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        pruner, _ = in_pruned_epoch()
        order = pruner.current.order.numpy()
        for start in (0, 8, 16):
            samples = order[start : start + 8]
            inputs = torch.rand(8, 3)
            pruner.update(forward(inputs).squeeze(1).square(), samples).backward()
            optimizer.step()
            optimizer.zero_grad()
        return model.weight.detach(), pruner.scores["last_loss"]

    for ours, plain in zip(train(compile_model=True), train(compile_model=False), strict=True):
        assert torch.allclose(ours, plain, rtol=1e-5)


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
    assert "2 losses or signals were NaN or infinite" in str(pruner.report())


def test_a_bad_loss_may_be_followed_by_a_good_one():
    pruner = DynamicPruner(Numbers(20), 5)
    pruner.sampler(4)
    pruner.update(torch.tensor([float("nan"), float("-inf"), 1.0]), [3, 4, 5])
    assert pruner.scores["visits"][[3, 4, 5]].tolist() == [0, 0, 1]
    assert pruner.scores.num_nonfinite == 2
    pruner.update(torch.tensor([0.5]), [3])
    assert pruner.scores["last_loss"][[3, 5]].tolist() == [0.5, 1]
    assert pruner.scores["last_loss"][4].isnan()
    assert "NaN" not in str(DynamicPruner(Numbers(20), 5).report())


@pytest.mark.parametrize("scored", [torch.tensor([True]), torch.ones(3, dtype=bool)])
def test_a_mask_of_another_length_is_refused(scored):
    pruner, samples = in_pruned_epoch()
    with pytest.raises(ValueError, match="scored"):
        pruner.update(torch.rand(8), samples, scored=scored)


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


def test_of_an_index_repeated_in_a_buffer_the_last_loss_counts(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    table = ScoreTable(6)
    buffer = LossBuffer(table.record, capacity=4)
    for round_ in range(5):
        buffer.put(np.array([5, round_, 2]), torch.tensor([10.0, 20.0, 30.0]) + round_)
    buffer.drain()
    assert table["last_loss"].tolist() == [20, 21, 34, 23, 24, 14]


@pytest.mark.parametrize("num_samples", [7, 40])
def test_scores_are_the_same_through_a_device(num_samples, monkeypatch):
    def run():
        pruner = DynamicPruner(Numbers(num_samples), 4, policy=InfoBatch(0.7))
        loader = pruner.loader(3)
        for epoch in pruner.epochs():
            losses = random_losses(num_samples, seed=epoch)
            train_epoch(pruner, loader, losses + 1)
            for _ in range(2):
                samples = pruner.current.order.numpy()
                pruner.record(losses[samples], samples)
        return pruner.state_dict()

    host = run()
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    device = run()
    assert torch.equal(host["weights"], device["weights"])
    for name, column in host["scores"]["columns"].items():
        assert torch.equal(column, device["scores"]["columns"][name])


def test_classification_losses_average_to_cross_entropy():
    logits, labels = torch.randn(16, 5), torch.randint(5, (16,))
    ours = classification_losses(logits, labels, label_smoothing=0.1)
    assert ours.shape == (16,)
    assert torch.allclose(ours.mean(), F.cross_entropy(logits, labels, label_smoothing=0.1))
    weights = torch.rand(5)
    weighted = classification_losses(logits, labels, class_weights=weights)
    assert torch.allclose(weighted, classification_losses(logits, labels) * weights[labels])
    renormalised = weighted.sum() / weights[labels].sum()
    assert torch.allclose(renormalised, F.cross_entropy(logits, labels, weight=weights))


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


def test_an_image_without_valid_pixels_gets_no_score():
    pruner = DynamicPruner(Numbers(20), 5)
    pruner.sampler(4)
    logits, targets = torch.randn(3, 4, 2, 2, requires_grad=True), torch.randint(4, (3, 2, 2))
    targets[1] = 255
    scored = (targets != 255).flatten(1).any(1)
    pruner.update(segmentation_losses(logits, targets), [4, 5, 6], scored=scored).backward()
    assert pruner.scores["last_loss"][[4, 5, 6]].isnan().tolist() == [False, True, False]
    assert pruner.scores["visits"][[4, 5, 6]].tolist() == [1, 0, 1]
    assert pruner.scores.num_nonfinite == 0
    assert logits.grad.flatten(1).abs().sum(1).gt(0).tolist() == [True, False, True]


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


def test_prune_ratio_0_gives_weight_1_everywhere():
    pruner, _ = in_pruned_epoch(policy=InfoBatch(0))
    assert (pruner.selection.weights == 1).all()


def test_signals_reach_the_columns_that_are_made_of_them(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))
    monkeypatch.setattr("infobatch.pruner.sent_to_device", lambda weights, device: weights)
    pruner = DynamicPruner(Numbers(6), 3, policy=Proportional(by="smoothed_norm"))
    samples = np.arange(6)
    norms = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.bfloat16)
    for factor in (1, 2):
        pruner.record(torch.ones(3) * factor, samples[:3], gradient_norms=norms[:3] * factor)
    pruner.record(torch.ones(3), samples[3:], gradient_norms=norms[3:], confidences=torch.ones(3))
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


def test_a_signal_that_the_policy_reads_must_come_with_each_batch():
    pruner = DynamicPruner(Numbers(3), 3, policy=Proportional(by="gradient_norm"))
    with pytest.raises(ValueError, match=r"reads gradient_norms.*classification_gradient_norms\(logits"):
        pruner.update(torch.ones(3), np.arange(3))
    with pytest.raises(ValueError, match=r"gradient_norms have shape \(2,\) and the losses \(3,\)"):
        pruner.update(torch.ones(3), np.arange(3), gradient_norms=torch.ones(2))
    with pytest.raises(TypeError, match="no signal 'norms'; there are gradient_norms, confidences"):
        pruner.update(torch.ones(3), np.arange(3), norms=torch.ones(3))
    assert pruner.current.num_recorded == 0


def test_signals_that_no_column_is_made_of_are_passed_over():
    pruner, samples = in_pruned_epoch()
    other, _ = in_pruned_epoch()
    losses = torch.rand(8)
    loss = pruner.update(losses, samples, gradient_norms=torch.rand(8))
    assert torch.equal(loss, other.update(losses, samples))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_gradient_norms_are_those_of_the_gradient_in_the_logits(smoothing, mixed):
    torch.manual_seed(0)
    logits = torch.randn(5, 4, requires_grad=True)
    targets = torch.rand(5, 4).softmax(1) if mixed else torch.tensor([0, 1, 2, 3, 3])
    losses = classification_losses(logits, targets, label_smoothing=smoothing)
    (gradients,) = torch.autograd.grad(losses.sum(), logits)
    norms = classification_gradient_norms(logits, targets, label_smoothing=smoothing)
    assert torch.allclose(norms, gradients.norm(dim=1), atol=1e-6)
    assert not norms.requires_grad


def test_confidences_are_the_probabilities_of_the_own_class():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]))
    labels = torch.tensor([0, 2])
    assert classification_confidences(logits, labels).tolist() == pytest.approx([0.7, 0.25])
    mixed = torch.tensor([[0.5, 0.5, 0], [1.0, 0, 0]])
    assert classification_confidences(logits, mixed).tolist() == pytest.approx([0.45, 0.5])


def test_scores_may_be_remembered_in_place_of_losses():
    """The gradient is that of the losses; the policy sees the scores."""
    pruner = DynamicPruner(range(8), 3)
    losses = torch.arange(4.0, requires_grad=True)
    scores = torch.tensor([4.0, 3.0, 2.0, 1.0])
    loss = pruner.update(losses, [0, 1, 2, 3], scores=scores)
    loss.backward()
    assert loss.item() == 1.5
    assert losses.grad.tolist() == [0.25] * 4
    assert pruner.scores["last_loss"][:4].tolist() == scores.tolist()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.ones(3), r"scores are of shape \(3,\) on cpu, and the losses of shape \(4,\)"),
        ([1.0] * 4, "scores are list, and the losses"),
        (torch.ones(4, dtype=torch.int64), r"scores have dtype torch\.int64; they must be floating"),
    ],
)
def test_scores_that_do_not_fit_their_losses_are_refused(scores, message):
    pruner = DynamicPruner(range(8), 3)
    with pytest.raises((TypeError, ValueError), match=message):
        pruner.update(torch.ones(4), [0, 1, 2, 3], scores=scores)
    assert pruner.current.num_recorded == 0
