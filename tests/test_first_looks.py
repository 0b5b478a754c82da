"""What a run looks at once: losses that mislead its policy, and converted batch norm without weights."""

from contextlib import nullcontext
from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from helpers import UNMERGED, Numbers, new_pruner, random_losses, record_epoch
from infobatch import (
    DynamicPruner,
    InfoBatch,
    Neyman,
    NoiseBudget,
    Spaced,
    batch_weights,
    output_gradient_norms,
    segmentation_losses,
    sequence_losses,
    weigh_batch_norm,
)
from infobatch.policies import Proportional, Undersampling

SIZED = [Neyman(), Spaced(Neyman()), Proportional(by="smoothed_loss"), NoiseBudget()]
NEGATIVE = torch.linspace(-1, 3, 20)


def trained(policy, losses_of, num_epochs=5, **options):
    pruner = DynamicPruner(Numbers(20), num_epochs, policy=policy, delta=1, shrink="steps", **options)
    loader = pruner.loader(5)
    for epoch in pruner.epochs():
        for indices, _ in loader:
            pruner.update(losses_of(epoch)[indices], indices)
    return pruner


@pytest.mark.parametrize("policy", SIZED, ids=repr)
def test_negative_losses_are_refused_at_the_first_batch(policy):
    pruner = DynamicPruner(Numbers(20), 5, policy=policy)
    pruner.loader(5)
    for _ in range(2):  # the loop is run again
        with pytest.raises(ValueError, match=r"sample 3 is -0\.25, and .*losses as sizes.*give update"):
            pruner.update(torch.tensor([0.5, -0.25]), [2, 3])
    assert pruner.progress == 0
    pruner.update(torch.tensor([0.5, 0.25]), [2, 3])


def test_of_a_repeat_the_sample_is_named():
    pruner = DynamicPruner(Numbers(21), 5, policy=Neyman(), rank=1, num_replicas=2, layout=UNMERGED)
    pruner.loader(5)
    repeat = int(pruner.current.share_of_rank()[-1])
    assert repeat < 0
    with pytest.raises(ValueError, match=rf"the loss of sample {~repeat} is -0\.25"):
        pruner.update(torch.tensor([0.5, -0.25]), [int(pruner.current.share_of_rank()[0]), repeat])


def test_a_target_alone_takes_losses_as_sizes():
    pruner = DynamicPruner(Numbers(20), 5, target=0.2)
    with pytest.raises(ValueError, match=r"sample 1 is -1, and Spaced\(.*InfoBatch\(\)"):
        pruner.update(torch.tensor([0.5, -1]), [0, 1])


@pytest.mark.parametrize("policy", [InfoBatch(), InfoBatch(by="smoothed_loss")], ids=repr)
def test_policies_that_go_by_order_take_any_losses(policy):
    assert trained(policy, lambda epoch: NEGATIVE).report().saved > 0


@pytest.mark.parametrize("policy", SIZED, ids=repr)
def test_losses_that_become_negative_are_told_of_once(policy):
    with pytest.warns(UserWarning, match="become negative, down to -[01].*, and .* counts as 0") as told:
        trained(policy, lambda epoch: NEGATIVE + 1 - min(epoch, 1))
    assert len(told) == 1


def test_rounding_below_zero_is_none():
    almost = NEGATIVE.clamp(min=-1e-3)
    assert trained(Neyman(), lambda epoch: almost).report().saved > 0


def test_norms_that_are_given_take_the_place_of_losses():
    pruner = DynamicPruner(Numbers(20), 3, policy=NoiseBudget(), delta=1)
    loader = pruner.loader(5)
    for _ in pruner.epochs():
        for indices, _ in loader:
            norms = NEGATIVE.abs()[indices] + 0.1
            pruner.update(NEGATIVE[indices], indices, gradient_norms=norms)


def test_a_sample_without_a_score_has_no_loss_to_look_at():
    pruner = DynamicPruner(Numbers(20), 5, policy=Neyman())
    pruner.update(torch.tensor([0.5, -1]), [0, 1], scored=torch.tensor([True, False]))


def test_negative_norms_are_refused():
    pruner = DynamicPruner(Numbers(20), 5, policy=NoiseBudget())
    with pytest.raises(ValueError, match=r"gradient_norms of sample 1 is -0\.5; a norm is at least 0"):
        pruner.update(torch.rand(2), [0, 1], gradient_norms=torch.tensor([1, -0.5]))


def epochs_of(num_epochs, step):
    """Train a linear model by what ``step(pruner, losses, indices)`` differentiates."""
    model = torch.nn.Linear(2, 3)
    pruner = DynamicPruner(Numbers(20), num_epochs, policy=InfoBatch())
    loader = pruner.loader(5)
    for _ in pruner.epochs():
        for indices, _ in loader:
            losses = model(torch.rand(5, 2)).logsumexp(1)
            step(pruner, losses, indices)


def test_losses_that_are_never_differentiated_are_told_of_once():
    def by_mean(pruner, losses, indices):
        pruner.update(losses, indices)
        losses.mean().backward()

    unused = "none of the 4 losses .* by the end of epoch 0 was differentiated: call backward"
    with pytest.warns(UserWarning, match=unused) as told:
        epochs_of(5, by_mean)
    assert len(told) == 1


@torch.no_grad()
def updated_without_gradients(pruner, losses, indices):
    pruner.update(losses, indices)


@pytest.mark.parametrize(
    "give",
    [updated_without_gradients, lambda pruner, losses, at: pruner.update(losses.detach(), at)],
    ids=["no_grad", "detach"],
)
def test_losses_given_without_a_gradient_are_told_of_where_something_is_trained(give):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def by_mean(pruner, losses, indices):
        give(pruner, losses, indices)
        (weight.sum() + losses.mean()).backward()
        optimizer.step()

    unused = (
        r"none of the 4 losses .* by the end of epoch 0 .* losses without a gradient .* takes record"
    )
    with pytest.warns(UserWarning, match=unused) as told:
        epochs_of(5, by_mean)
    assert len(told) == 1


STEPS = {
    "backward": lambda pruner, losses, indices: pruner.update(losses, indices).backward(),
    "with another loss": lambda pruner, losses, indices: (
        (pruner.update(losses, indices) + losses.max()) * 2
    ).backward(),
    "autograd.grad": lambda pruner, losses, indices: torch.autograd.grad(
        pruner.update(losses, indices), losses
    ),
    "detached": lambda pruner, losses, indices: pruner.update(losses.detach(), indices),
    "weighed by hand": lambda pruner, losses, indices: (
        pruner.record(losses, indices),
        (losses * pruner.weights(indices)).mean().backward(),
    ),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_losses_that_are_differentiated_or_cannot_be_are_not(step):
    epochs_of(2, step)


def test_losses_that_are_differentiated_together_are_not_told_of():
    returned = []

    def accumulated(pruner, losses, indices):
        returned.append(pruner.update(losses, indices))
        if len(returned) % 4 == 0:
            sum(returned[-4:]).backward()

    epochs_of(2, accumulated)


def test_an_epoch_without_a_finite_loss_is_warned_of():
    pruner = new_pruner()
    losses = random_losses(60)
    record_epoch(pruner, losses)
    pruner.set_epoch(1)
    record_epoch(pruner, torch.full((60,), float("nan")))
    with pytest.warns(UserWarning, match="all losses of epoch 1 were NaN or infinite: training has"):
        pruner.set_epoch(2)
    record_epoch(pruner, losses)
    pruner.set_epoch(3)


ONES = torch.ones(4, 3)


def squared_errors(outputs):
    return F.mse_loss(outputs, ONES, reduction="none").mean(1)


ERRORS = {
    "mse_loss": squared_errors,
    "root": lambda outputs: squared_errors(outputs).sqrt(),
    "power": lambda outputs: 0.5 * (outputs - 1).pow(2).sum(1),
    "l1_loss": lambda outputs: F.l1_loss(outputs, ONES, reduction="none")[:, 0],
    "huber_loss": lambda outputs: F.huber_loss(outputs, ONES, reduction="none").sum(1),
    "norm": lambda outputs: (outputs - 1).norm(dim=1),
    "distance": lambda outputs: F.pairwise_distance(outputs, ONES),
    "product": lambda outputs: ((outputs - 1) * (outputs - 1)).mean(1),
    "product of one": lambda outputs: (lambda error: error * error)(outputs - 1).sum(1),
}
CLASSES = torch.tensor([0, 1, 2, 0])


def cross_entropies(outputs):
    return F.cross_entropy(outputs, CLASSES, reduction="none")


def binary(outputs, **options):
    targets = F.one_hot(CLASSES, 3)[:, : outputs[0].numel()].float().view_as(outputs)
    return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none", **options)


def smoothed(outputs):
    chosen = outputs.log_softmax(1)
    return -0.9 * chosen.gather(1, CLASSES[:, None])[:, 0] - 0.1 * chosen.mean(1)


WEIGHTS, SHARES = torch.tensor([1.0, 2, 3]), torch.tensor([0.2, 0.3, 0.5]).expand(4, 3)
WEIGHTED, SEVERAL = "class weights or weights of samples", "several labels a sample"
SOFT = "soft targets or label smoothing"
FOCAL = "a factor that is learned, as in the focal loss"


def focal(outputs):
    losses = cross_entropies(outputs)
    return (1 - torch.exp(-losses)) ** 2 * losses


NOT_PLAIN = {
    "focal": (focal, FOCAL),
    "weights of a column": (
        lambda z: (binary(z[:, :1]) * torch.arange(1, 5)[:, None]).mean(1),
        WEIGHTED,
    ),
    "weight": (lambda z: F.cross_entropy(z, CLASSES, WEIGHTS, reduction="none"), WEIGHTED),
    "pos_weight": (lambda z: binary(z[:, 0], pos_weight=torch.tensor(3)), WEIGHTED),
    "weights of binary": (lambda z: binary(z[:, 0], weight=torch.arange(1, 5)), WEIGHTED),
    "weights of samples": (lambda z: WEIGHTS[CLASSES] * cross_entropies(z), WEIGHTED),
    "pixels": (
        lambda z: segmentation_losses(z[..., None], CLASSES[:, None], class_weights=WEIGHTS),
        WEIGHTED,
    ),
    "labels": (lambda z: binary(z).mean(1), SEVERAL),
    "probabilities": (
        lambda z: F.binary_cross_entropy(z.sigmoid(), SHARES, reduction="none").sum(1),
        SEVERAL,
    ),
    "label_smoothing": (
        lambda z: F.cross_entropy(z, CLASSES, label_smoothing=0.1, reduction="none"),
        SOFT,
    ),
    "smoothed by hand": (smoothed, SOFT),
    "shares": (lambda z: F.cross_entropy(z, SHARES, reduction="none"), SOFT),
    "mixed": (
        lambda z: 0.3 * cross_entropies(z) + 0.7 * F.cross_entropy(z, CLASSES.flip(0), reduction="none"),
        SOFT,
    ),
    "shares by hand": (lambda z: -(SHARES * z.log_softmax(1)).sum(1), SOFT),
    "distilled": (
        lambda z: cross_entropies(z) + F.kl_div(z.log_softmax(1), SHARES, reduction="none").sum(1),
        SOFT,
    ),
}
OTHERS = {
    "cross_entropy": cross_entropies,
    "two terms": lambda outputs: cross_entropies(outputs) + squared_errors(outputs),
    "by hand": lambda outputs: outputs.logsumexp(1) - outputs[range(4), CLASSES],
    "weighted": lambda outputs: (outputs - -1).exp().sum(1).log() * (outputs.sum(1) - -9),
    "own": lambda outputs: -outputs.pow(2).softmax(1)[range(4), CLASSES].log(),
    "no gradient": lambda outputs: squared_errors(outputs).detach(),
    "equal weights": lambda outputs: F.cross_entropy(
        outputs, CLASSES, 2 * ONES[0, :3], reduction="none"
    ),
    "two heads": lambda outputs: cross_entropies(outputs) + 0.4 * cross_entropies(outputs * 2),
    "a mask": lambda outputs: cross_entropies(outputs) * CLASSES.ne(1),
    "one-hot": lambda outputs: F.cross_entropy(outputs, F.one_hot(CLASSES, 3).float(), reduction="none"),
    "picked": lambda outputs: -outputs.log_softmax(1)[range(4), CLASSES],
    "gathered": lambda outputs: -outputs.log_softmax(1).gather(1, CLASSES[:, None])[:, 0],
    "binary": lambda outputs: binary(outputs[:, :1]).mean(1),
    "entropy": lambda outputs: (
        cross_entropies(outputs) + (outputs.softmax(1) * outputs.log_softmax(1)).sum(1) + 2
    ),
    "tokens": lambda outputs: sequence_losses(outputs[:, None], CLASSES[:, None]),
    "factors of tokens": lambda outputs: (
        (
            F.cross_entropy(
                outputs[..., None].expand(4, 3, 2), CLASSES[:, None].expand(4, 2), reduction="none"
            )
            * torch.tensor([[1, 0], [1, 1], [1, 1], [1, 0]])
        ).sum(1)
        * torch.tensor([1, 0.5, 0.5, 1])
    ),
}


def test_errors_are_told_of_where_something_else_is_remembered():
    outputs = torch.linspace(-1, 2, 12).reshape(4, 3).requires_grad_()
    pruner = DynamicPruner(Numbers(20), 5)
    with pytest.warns(UserWarning, match=r"look like errors \(of \w+\), and NoiseBudget"):
        pruner.update(squared_errors(outputs), range(4), scores=torch.ones(4))


def first_update(losses_of, signals=(), **options):
    outputs = torch.linspace(-1, 2, 12).reshape(4, 3).requires_grad_()
    pruner = DynamicPruner(Numbers(20), 5, **{"policy": NoiseBudget(), **options})
    pruner.update(losses_of(outputs), range(4), **{name: torch.ones(4) for name in signals})


@pytest.mark.parametrize("losses_of", ERRORS.values(), ids=ERRORS)
def test_errors_taken_for_cross_entropies_are_told_of(losses_of):
    with pytest.warns(
        UserWarning, match=r"look like errors \(of \w+\), and NoiseBudget.*norms_from="
    ) as told:
        first_update(losses_of)
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize(("losses_of", "trait"), NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_cross_entropies_that_are_not_plain_are_told_of(losses_of, trait):
    remedy = r"give update gradient_norms=output_gradient_norms\(losses, outputs\)$"
    with pytest.warns(UserWarning, match=f"look like cross-entropies with {trait}, .*{remedy}") as told:
        first_update(losses_of)
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize("losses_of", OTHERS.values(), ids=OTHERS)
def test_losses_that_may_be_cross_entropies_are_taken_for_them(losses_of):
    first_update(losses_of)


@pytest.mark.parametrize(
    "options",
    [{"norms_from": "squared-error"}, {"policy": InfoBatch()}, {"signals": ["gradient_norms"]}],
    ids=str,
)
def test_errors_that_are_told_as_such_are_taken_for_them(options):
    first_update(squared_errors, **options)
    first_update(smoothed, **options)


def test_losses_whose_graph_is_gone_are_taken_for_plain_ones():
    outputs = torch.linspace(-1, 2, 12).reshape(4, 3).requires_grad_()
    pruner = DynamicPruner(Numbers(20), 5)
    losses = F.cross_entropy(outputs, CLASSES, WEIGHTS, reduction="none")
    losses.sum().backward()
    pruner.record(losses, range(4))


def weighted(outputs, numbers):
    return F.cross_entropy(outputs, numbers.long() % 3, WEIGHTS**3, reduction="none")


def under_a_budget(loss_of, give=False, state=None):
    """The pruner after each of three epochs, with norms given or not."""
    torch.manual_seed(0)
    outputs = torch.randn(40, 3, requires_grad=True)
    pruner = DynamicPruner(Numbers(40), 3)
    loader = pruner.loader(10)
    if state is not None:
        pruner.load_state_dict(state)
    for _ in pruner.epochs():
        for indices, numbers in loader:
            logits = outputs[indices]
            losses = loss_of(logits, numbers)
            norms = {"gradient_norms": output_gradient_norms(losses, logits)} if give else {}
            pruner.update(losses, indices, **norms).backward()
        yield pruner


def test_a_report_says_that_the_noise_of_a_budget_is_a_guess_until_norms_are_given():
    guess = "the noise is a rough guess: the losses look like cross-entropies with class weights"
    with pytest.warns(UserWarning, match="class weights"):
        _, second = islice(under_a_budget(weighted), 2)
    assert guess in str(second.report())
    with pytest.warns(UserWarning, match="class weights .* what budgets save is predicted as if"):
        second.predict_budgets()
    (last,) = under_a_budget(weighted, give=True, state=second.state_dict())
    assert "noise 1." in str(last.report())
    assert "guess" not in str(last.report())
    last.predict_budgets()


def test_a_report_says_that_the_noise_of_a_budget_is_not_known_for_errors():
    with pytest.warns(UserWarning, match="look like errors"):
        *_, pruner = under_a_budget(lambda outputs, numbers: errors(outputs[:, 0], numbers))
    assert pruner.report().noise is None
    assert r"the noise is not known: the losses look like errors (of MseLoss)" in str(pruner.report())


def pruned_by_the_paper(loss_of, **options):
    """Two epochs of predicting numbers by zero, the second pruned; and what loggers were told."""
    pruner = DynamicPruner(Numbers(40), 2, policy=InfoBatch(), delta=1, **options)
    loader, logs, zero = pruner.loader(10), [], torch.zeros(10, requires_grad=True)
    pruner.log_to(logs.append)
    for _ in pruner.epochs():
        for indices, numbers in loader:
            outputs = zero[: len(indices)]
            pruner.update(loss_of(outputs, numbers / 10), indices).backward()
    return pruner, logs


def errors(outputs, numbers):
    return F.mse_loss(outputs, numbers, reduction="none")


def test_of_errors_taken_for_cross_entropies_no_noise_is_told_and_budgets_are_warned_of():
    pruner, logs = pruned_by_the_paper(errors)
    assert pruner.report().noise is None
    assert "infobatch/noise" not in logs[1].values
    with pytest.warns(UserWarning, match=r"errors \(of MseLoss\), .* norms_from=") as told:
        pruner.predict_budgets()
    assert len(told) == 1


def test_of_negative_losses_no_noise_is_told_and_budgets_are_warned_of():
    pruner, logs = pruned_by_the_paper(lambda outputs, numbers: outputs + numbers - 1)
    assert pruner.report().noise is None
    assert "infobatch/noise" not in logs[1].values
    with pytest.warns(UserWarning, match="losses go down to -1, and negative ones say nothing") as told:
        pruner.predict_budgets()
    assert len(told) == 1


def test_of_errors_that_are_told_as_such_the_noise_is_known():
    pruner, logs = pruned_by_the_paper(errors, norms_from="squared-error")
    assert pruner.report().noise == logs[1].values["infobatch/noise"] > 1
    pruner.predict_budgets()


# -- Batch norm --------------------------------------------------------------------------------------


def train_with_batch_norm(convert, give, policy):
    """Two epochs, the second pruned with unequal weights."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    if convert:
        weigh_batch_norm(model)
    pruner = DynamicPruner(Numbers(20), 2, policy=policy, delta=1)
    loader = pruner.loader(10)
    for _ in pruner.epochs():
        for indices, numbers in loader:
            inputs = numbers.float().unsqueeze(1)
            with batch_weights(model, pruner.weights(indices)) if give else nullcontext():
                logits = model(inputs)
            losses = F.cross_entropy(logits, numbers.long() % 2, reduction="none")
            pruner.update(losses, indices).backward()


@pytest.mark.parametrize(
    "policy", [InfoBatch(), Undersampling((torch.arange(20) % 5 == 0).long())], ids=["scores", "labels"]
)
def test_converted_batch_norm_without_weights_is_told_of_once(policy):
    with pytest.warns(UserWarning, match="weigh_batch_norm.*was given none for this batch") as told:
        train_with_batch_norm(convert=True, give=False, policy=policy)
    assert len(told) == 1


@pytest.mark.parametrize(("convert", "give"), [(False, False), (True, True)])
def test_batch_norm_that_does_as_it_is_told_is_not(convert, give):
    train_with_batch_norm(convert, give, InfoBatch())
