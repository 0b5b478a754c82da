"""Segmentation: its losses against transformers' own, mean IoU, runs and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import check_goes_on, run
from helpers.segmentation import QUICK
from infobatch.distributed import Replicas
from infobatch.lab.comparison.contest import CONTESTANTS, contestants
from infobatch.lab.config.task_options import SegmentationOptions
from infobatch.lab.data import load_data
from infobatch.lab.data.segmentation import IGNORED
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.segmentation import Segmentation, confusion_of, resized
from infobatch.lab.training.validate import check_config, check_run

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def data(camvid_folder):
    return load_data("camvid", camvid_folder)


@pytest.fixture
def task(data):
    return Segmentation(QUICK, data)


def batch_of(task, num=4):
    task.begin(0)
    return task.inputs(task.feed.first(num), np.arange(num))


@pytest.mark.parametrize("model", ["segformer-tiny", "upernet-tiny"])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_mean_loss_is_transformers_own(data, model, labelled):
    """Its mean is over all labelled pixels of the batch: ours where images have equally many."""
    task = Segmentation(replace(QUICK, model=model), data)
    images, classes = batch_of(task)
    classes = classes.where(classes != IGNORED, 0)
    if not labelled:
        classes[:, :, ::3] = IGNORED
    outputs = task.train_outputs((images, classes))
    theirs = task.model.network(pixel_values=images, labels=classes).loss
    assert outputs.losses.shape == (4,)
    assert outputs.losses.mean().item() == pytest.approx(theirs.item(), rel=1e-6)
    assert outputs.scored.all()


def test_one_image_has_the_loss_of_a_batch_of_its_own(task):
    images, classes = batch_of(task)
    task.model.eval()
    outputs = task.eval_outputs((images, classes))
    task.model.eval()
    for i in range(4):
        part = slice(i, i + 1)
        theirs = task.model.network(pixel_values=images[part], labels=classes[part]).loss
        assert outputs.losses[i].item() == pytest.approx(theirs.item(), rel=1e-5)


def test_gradients_flow_through_both_heads(data):
    task = Segmentation(replace(QUICK, model="upernet-tiny"), data)
    task.train_outputs(batch_of(task)).losses.mean().backward()
    without = [name for name, p in task.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    network = task.model.network
    main = network.decode_head.classifier.bias.grad.norm()
    auxiliary = network.auxiliary_head.classifier.bias.grad.norm()
    assert auxiliary < main  # at 0.4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_norms_are_given_where_smoothed_labels_hide_them(data, smoothing):
    task = Segmentation(replace(QUICK, model="upernet-tiny", label_smoothing=smoothing), data)
    images, classes = batch_of(task)
    classes[0] = IGNORED
    norms = task.train_outputs((images, classes), ["gradient_norms"]).signals.get("gradient_norms")
    assert (norms is None) == (smoothing == 0)
    if norms is not None:
        assert norms[0] == 0
        assert (norms[1:] > 0).all()


def test_ignored_pixels_have_no_gradient_and_an_unlabelled_image_no_score(task):
    classes = torch.randint(5, (3, 16, 16))
    classes[0, :8] = IGNORED
    classes[1] = IGNORED
    logits = torch.randn(3, 11, 16, 16, requires_grad=True)
    outputs = task.sample_outputs((logits,), (torch.zeros(3), classes), ())
    assert outputs.scored.tolist() == [True, False, True]
    assert outputs.losses[1] == 0
    outputs.losses.sum().backward()
    seen = logits.grad.abs().sum(1) > 0
    assert torch.equal(seen, classes != IGNORED)


def test_a_batch_of_one_image_trains(data):
    """UPerNet pools it to a single value a channel, of which batch norm knows no variance."""
    task = Segmentation(replace(QUICK, model="upernet-tiny"), data)
    loss = task.train_outputs(batch_of(task, 1)).losses.mean()
    loss.backward()
    assert loss.isfinite()


def test_mean_iou_is_that_of_scikit_learn(task, data):
    from sklearn.metrics import accuracy_score, jaccard_score, recall_score

    evaluation = task.evaluate()
    assert task.model.training
    task.model.eval()
    guesses, truths, losses = [], [], []
    with torch.no_grad():
        for pixels, classes in task.feed.test_batches(Replicas()):
            logits = resized(task.model(task.feed.images(pixels))[0], classes)
            labelled = classes != IGNORED
            guesses.append(logits.argmax(1)[labelled])
            truths.append(classes[labelled])
            losses += [
                torch.nn.functional.cross_entropy(x[None], y[None].long(), ignore_index=IGNORED)
                for x, y in zip(logits, classes, strict=True)
            ]
    truth, guess = torch.cat(truths).numpy(), torch.cat(guesses).numpy()
    assert evaluation.result == pytest.approx(100 * jaccard_score(truth, guess, average="macro"))
    details = evaluation.details
    assert details["pixel accuracy %"] == pytest.approx(100 * accuracy_score(truth, guess))
    recall = recall_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)
    assert details["mean class accuracy %"] == pytest.approx(100 * recall)
    assert evaluation.loss == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert evaluation.counts[:5] == [6, 2, 2, 1, 1]
    present = {*truth, *guess}
    assert [c for c, value in enumerate(evaluation.per_class) if not np.isnan(value)] == sorted(present)


def test_confusion_counts_labelled_pixels_alone():
    guesses, classes = torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 0, 1, IGNORED]])
    assert confusion_of(guesses, classes, 2).tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "upernet-tiny", "workers": 1, "epochs": 3},
        {"model": "upernet-tiny", "policy": "noise-budget:max_noise=1.5"},
    ],
    ids=str,
)
def test_an_interrupted_run_goes_on_bit_for_bit(data, tmp_path, options):
    config = replace(QUICK, **options)
    check_goes_on(config, data, tmp_path)


def test_images_with_a_rare_class_are_seen_in_every_epoch(data, tmp_path):
    """Of nine images one has class 3, three have class 2, and five class 1."""
    few = data.subset(torch.tensor([0, 4, 8, 12, 16, 1, 5, 9, 2]))
    options = replace(QUICK.segmentation, protect=0.4)
    config = replace(QUICK, segmentation=options, epochs=6, prune_ratio=0.9, delta=1.0)
    summary = run(config, few, tmp_path)
    visits = RunFolder(tmp_path).scores()["visits"]
    assert visits[5:].tolist() == [6] * 4
    assert summary.num_trained == visits.sum() < 6 * 9


def test_protection_of_none_or_of_all_is_refused(data):
    def protecting(share):
        return replace(QUICK, segmentation=replace(QUICK.segmentation, protect=share))

    with pytest.raises(
        ValueError, match=r"protect is 0\.1, by which none .* in 25\.0% of them.* raise it"
    ):
        check_run(protecting(0.1), data)
    with pytest.raises(ValueError, match=r"protect is 0\.3, by which all .* lower it"):
        check_run(protecting(0.3), data)


def test_the_command_line_trains_compares_and_evaluates(call, camvid_folder, tmp_path):
    options = [
        "--task",
        "segmentation",
        "--data",
        "camvid",
        "--data-dir",
        camvid_folder,
        "--device",
        "cpu",
    ]
    options += ["--model", "segformer-tiny", "--segmentation.crop", 32, "--batch-size", 10]
    code, out, error = call("compare", *options, "--epochs", 3, "--seeds", 1, "--out", tmp_path)
    assert code == 0, error
    assert "mIoU %" in out
    assert "Verdict" in out
    assert "mIoU" in (tmp_path / "report" / "report.md").read_text()
    code, out, error = call("eval", tmp_path / "noise-budget" / "pruned" / "seed-0")
    assert code == 0, error
    assert "pixel accuracy %" in out
    assert "bicyclist" in out
    code, out, error = call("train", *options, "--segmentation.crop", 16, "--out", tmp_path / "run")
    assert code != 0
    assert "--segmentation.crop is 16; it must be at least 32" in error


def test_a_contest_is_among_the_policies_that_know_enough():
    variants, reasons = contestants(replace(QUICK, epochs=20), CONTESTANTS, [0.3], 500)
    out = {"neyman", "infobatch", "percentile-tiers", "proportional", "random", "ies"}
    assert out <= {variant.policy for variant in variants}
    for name in ("kakurenbo", "class-quotas", "el2n", "selective-backprop"):
        assert any(reason.startswith(f"{name} does not take part") for reason in reasons), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "segformer-b9"}, "no model 'segformer-b9'; did you mean segformer-b5"),
        ({"model": "small-cnn"}, "no model 'small-cnn'"),
        (
            {"data": "cifar10"},
            "is cifar10, which is for classification or mae or diffusion, and --task segm",
        ),
        ({"mixup": 0.2}, "--mixup is for --task classification"),
        (
            {"segmentation": SegmentationOptions(crop=16)},
            "--segmentation.crop is 16; it must be at least",
        ),
        ({"segmentation": SegmentationOptions(min_scale=0.0)}, "--segmentation.min-scale is 0.0"),
        (
            {"segmentation": SegmentationOptions(min_scale=3.0)},
            "--segmentation.max-scale is 2.0; .* --segmentation.min-scale",
        ),
        ({"segmentation": SegmentationOptions(largest_class=0.0)}, "--segmentation.largest-class is 0"),
        ({"segmentation": SegmentationOptions(protect=1.5)}, "--segmentation.protect is 1.5"),
        (
            {"segmentation": SegmentationOptions(protect=0.1), "policy": "kakurenbo"},
            "Kakurenbo.* give an unbiased one",
        ),
    ],
    ids=str,
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(replace(QUICK, **options))


def test_policies_that_a_segmenter_cannot_feed_are_refused(data):
    for policy, message in (
        ("proportional:by=gradient_norm", "reads gradient norms, and --task segmentation has none"),
        ("class-quotas", "gives --task segmentation no single class"),
        ("el2n", "goes by scores of a classifier"),
    ):
        config = replace(QUICK, policy=policy)
        with pytest.raises(ValueError, match=message):  # noqa: PT012 - either may say so
            check_config(config)
            check_run(config, data)
