"""Segmentation: its data and crops, its losses against transformers' own, mean IoU, and whole runs."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from helpers import run, stop_after
from infobatch.distributed import Replicas
from infobatch.lab.comparison.contest import CONTESTANTS, contestants
from infobatch.lab.config.task_options import SegmentationOptions
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.data.crops import CropFeed, Cropping, TrainCrops, of_one_size, scaled
from infobatch.lab.data.segmentation import IGNORED
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.validate import check_config, check_run

transformers = pytest.importorskip("transformers")

from infobatch.lab.models.segmentation import NETWORKS, make_segmenter  # noqa: E402
from infobatch.lab.tasks.segmentation import Segmentation, confusion_of, resized  # noqa: E402

CPU = torch.device("cpu")
UNLABELLED = 11
QUICK = TrainConfig(
    task="segmentation",
    data="camvid",
    model="segformer-tiny",
    epochs=4,
    batch_size=6,
    lr=3e-3,
    optimizer="adamw",
    label_smoothing=0.0,
    device="cpu",
    segmentation=SegmentationOptions(crop=32, min_scale=0.8, max_scale=1.2),
)


def encoded(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def picture(i, size=(44, 36)):
    """A box of class 1 + i % 4 on class 0, each of its own grey, and an unlabelled row on top."""
    width, height = size
    classes = np.zeros((height, width), np.uint8)
    classes[10:30, 5 + i % 9 : 25 + i % 9] = 1 + i % 4
    pixels = np.repeat(50 * classes[:, :, None], 3, axis=2).astype(np.uint8)
    classes[0] = UNLABELLED
    return pixels, classes


def rows(count, size=(44, 36)):
    pairs = [picture(i, size) for i in range(count)]
    return [(encoded(pixels), encoded(classes)) for pixels, classes in pairs]


def write(path, pairs):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        name: [None if value is None else {"bytes": value, "path": ""} for value in values]
        for name, values in zip(("image", "annotation"), zip(*pairs, strict=True), strict=True)
    }
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({name: pa.array(c, struct) for name, c in columns.items()}), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    write(path / "camvid" / "train.parquet", rows(20))
    write(path / "camvid" / "test.parquet", rows(6))
    return path


@pytest.fixture(scope="module")
def data(folder):
    return load_data("camvid", folder)


@pytest.fixture
def task(data):
    return Segmentation(QUICK, data)


# -- Data ----------------------------------------------------------------------------------------


def test_images_come_with_the_class_of_each_pixel(data):
    assert (len(data.train), len(data.test), data.num_classes) == (20, 6, 11)
    image, classes = data.train[2]
    assert image.size == (44, 36)
    assert (classes[0] == IGNORED).all()
    assert classes[15, 15] == 3
    samples, members = data.class_members
    assert samples[members == 0].tolist() == list(range(20))
    assert samples[members == 3].tolist() == [2, 6, 10, 14, 18]
    assert data.train_labels is None


def test_ade20k_counts_classes_from_1_and_leaves_0_out(tmp_path):
    classes = np.array([[0, 1], [150, 2]], np.uint8).repeat(20, 0).repeat(20, 1)
    pair = (encoded(np.zeros((40, 40, 3), np.uint8), "JPEG"), encoded(classes))
    for split in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / "ade20k" / "data" / f"{split}.parquet", [pair])
    data = load_data("ade20k", tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (2, 1, 150)
    assert np.unique(data.train[1][1]).tolist() == [0, 1, 149, IGNORED]
    assert data.class_names[149] == "flag"
    assert data.class_members[1].tolist() == [0, 1, 149] * 2


def test_a_part_is_of_the_rows_that_were_chosen(data):
    part = data.split(0.2, 10)
    assert (len(part.train), len(part.test)) == (10, 4)
    chosen = data.subset(torch.tensor([3, 7]))
    assert np.array_equal(chosen.train[1][1], data.train[7][1])
    assert chosen.train.present.tolist() == data.train.present[[3, 7]].tolist()
    assert len(chosen.test) == 6


GOOD = rows(1)[0]
WRONG = np.full((36, 44), 3, np.uint8)
OUT = WRONG.copy()
OUT[3, 4] = 12


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((GOOD[0], None), "the annotation is missing"),
        ((None, GOOD[1]), "the image is missing"),
        ((GOOD[0], encoded(OUT)), r"class id 12 .* out of range; it has ids 0\.\.11, of which 11 is"),
        ((GOOD[0], encoded(WRONG.astype(np.uint16) + 1000)), "class id 1003 in the annotation"),
        ((GOOD[0], encoded(WRONG[:35])), "the image has 44x36 pixels, and its annotation 44x35"),
        ((GOOD[0], encoded(np.stack([WRONG] * 3, 2))), "the annotation has mode RGB; it must hold one"),
        ((GOOD[0][:-60], GOOD[1]), r"the image cannot be read \("),
        ((b"GIF", GOOD[1]), r"the image cannot be read \(of no known format\)"),
        ((GOOD[0], b"PNG"), r"the annotation cannot be read \(of no known format\)"),
        (
            (encoded(np.zeros((20, 44, 3), np.uint8)), GOOD[1]),
            "the image has 44x20 pixels, and needs 32",
        ),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_named_or_left_out(tmp_path, pair, message):
    write(tmp_path / "camvid" / "train.parquet", [GOOD, GOOD, pair, GOOD, pair])
    write(tmp_path / "camvid" / "test.parquet", [GOOD])
    with pytest.raises(
        ValueError, match=rf"^row 2 \(from 0\) of \S+train\.parquet: {message}"
    ) as caught:
        load_data("camvid", tmp_path)
    assert "--segmentation.skip-bad" in str(caught.value)
    assert "(2 of 5 rows are bad)" in str(caught.value)
    told = []
    data = load_data("camvid", tmp_path, skip_bad=True, say=told.append)
    assert data.train.rows.tolist() == [0, 1, 3]
    assert len(told) == 1
    assert told[0].startswith("2 of 5 images of camvid are left out; row 2 (from 0) of")


def test_a_set_of_bad_rows_alone_is_refused(tmp_path):
    write(tmp_path / "camvid" / "train.parquet", [(GOOD[0], None)] * 2)
    write(tmp_path / "camvid" / "test.parquet", [GOOD])
    with pytest.raises(ValueError, match=r"all 2 rows are bad, the first one row 0 \(from 0\) of"):
        load_data("camvid", tmp_path, skip_bad=True)


def test_a_set_that_is_not_there_is_told_of(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no train\*\.parquet and test\*\.parquet of camvid"):
        load_data("camvid", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"download them from huggingface\.co/datasets/merve"):
        load_data("ade20k", tmp_path)
    monkeypatch.delenv("INFOBATCH_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match="camvid is not downloaded; give --data-dir"):
        load_data("camvid")


# -- Crops and whole images ----------------------------------------------------------------------


def test_a_crop_depends_on_seed_epoch_and_index_alone(data):
    def crops(seed, epoch):
        made = TrainCrops(data.train, None, Cropping(32, (0.5, 2.0)), seed)
        made.begin(epoch)
        return [made[i] for i in (5, 3)]

    first, again = crops(0, 1), crops(0, 1)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    for other in (crops(1, 1), crops(0, 2)):
        assert not torch.equal(first[0][0], other[0][0])


def test_pixels_and_classes_are_cut_alike(data):
    """The greys are those of the classes, but where they are mixed at an edge."""
    crops = TrainCrops(data.train, None, Cropping(32, (0.7, 1.5)), 0)
    for i in range(20):
        pixels, classes = crops[i]
        assert pixels.shape == (3, 32, 32)
        labelled = classes != IGNORED
        off = (pixels[0][labelled].int() - 50 * classes[labelled].int()).abs() > 8
        assert off.float().mean() < 0.15


def test_what_a_small_image_lacks_is_ignored(data):
    crops = TrainCrops(data.train, None, Cropping(64, (1.0, 1.0)), 0)
    pixels, classes = crops[0]
    assert (classes[36:] == IGNORED).all()
    assert (classes[:, 44:] == IGNORED).all()
    assert pixels[:, 60, 60].tolist() == [124, 116, 104]
    assert (classes[1:36, :44] != IGNORED).all()


def test_a_crop_is_not_filled_by_one_class_where_another_is_near(data):
    def shares(largest):
        crops = TrainCrops(data.train, None, Cropping(32, (2.0, 2.0), largest), 0)
        counts = [np.bincount(crops[i][1].numpy().ravel(), minlength=256)[:11] for i in range(20)]
        return [c.max() / c.sum() for c in counts]

    assert max(shares(1.0)) > 0.9 > max(shares(0.8))


def test_the_short_side_is_what_scales_are_relative_to():
    assert scaled((640, 480), 512) == (683, 512)
    assert scaled((300, 600), 512, 0.5) == (256, 512)
    assert scaled((240, 180), None, 1.5) == (360, 270)


def test_test_images_are_whole_and_each_is_seen_once(tmp_path):
    write(tmp_path / "camvid" / "train.parquet", rows(5))
    write(tmp_path / "camvid" / "test.parquet", [*rows(4), *rows(2, (52, 40)), *rows(7)])
    data = load_data("camvid", tmp_path)
    feed = CropFeed(data, Cropping(32, (1.0, 1.0)), CPU, 0, 0)
    for num_replicas in (1, 2):
        seen = [
            classes
            for rank in range(num_replicas)
            for _, labels in feed.test_batches(Replicas(rank, num_replicas))
            for classes in labels
        ]
        assert len(seen) == 13
        assert sorted(c.shape for c in seen).count((40, 52)) == 2
    plain = list(feed.plain_batches(2, Replicas()))
    assert torch.cat([indices for indices, _ in plain]).tolist() == [0, 1, 2, 3, 4]
    groups = of_one_size(np.array([[1, 2], [3, 4], [1, 2], [1, 2]]), 2)
    assert [group.tolist() for group in groups] == [[0, 2], [3], [1]]


# -- Losses and the metric -----------------------------------------------------------------------


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


# -- Networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NETWORKS if name[-2:] not in ("b3", "b4", "b5")])
def test_every_network_can_be_made(name):
    with torch.device("meta"):
        model = make_segmenter(name, 7).eval()
        logits = model(torch.zeros(2, 3, 64, 96))
    assert [each.shape[:2] for each in logits] == [(2, 7)] * (2 if name.startswith("upernet") else 1)


@pytest.mark.parametrize(("name", "millions"), [("segformer-b0", 3.8), ("segformer-b2", 27.5)])
def test_segformers_have_the_papers_sizes(name, millions):
    with torch.device("meta"):
        model = make_segmenter(name, 150)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_nothing_is_dropped_at_random():
    model = make_segmenter("segformer-b0", 3)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images)[0], model(images)[0])
    assert all(m.p == 0 for m in model.modules() if isinstance(m, torch.nn.Dropout))


def test_a_batch_of_one_image_trains(data):
    """UPerNet pools it to a single value a channel, of which batch norm knows no variance."""
    task = Segmentation(replace(QUICK, model="upernet-tiny"), data)
    loss = task.train_outputs(batch_of(task, 1)).losses.mean()
    loss.backward()
    assert loss.isfinite()


def test_a_folder_gives_its_network_with_a_head_for_the_classes(tmp_path):
    saved = make_segmenter("segformer-tiny", 4).network
    saved.save_pretrained(tmp_path)
    read = make_segmenter(str(tmp_path), 11).network
    assert read.decode_head.classifier.out_channels == 11
    for ours, theirs in zip(saved.segformer.parameters(), read.segformer.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["segformer-tiny", "upernet-tiny"])
def test_an_encoder_can_be_pretrained(tmp_path, name):
    config = NETWORKS[name]()
    config = config if name.startswith("segformer") else config.backbone_config
    kind = transformers.AutoModelForImageClassification.from_config(config)
    kind.save_pretrained(tmp_path)
    network = make_segmenter(name, 3, str(tmp_path)).network
    theirs = dict(kind.base_model.named_parameters())
    ours = network.segformer if name.startswith("segformer") else network.backbone
    assert {key for key, p in ours.named_parameters() if torch.equal(p, theirs[key])} == set(theirs)
    other = "upernet-resnet18" if name.startswith("upernet") else "segformer-b0"
    with pytest.raises(ValueError, match=r"no encoder of --model could be made .* same architecture"):
        make_segmenter(other, 3, str(tmp_path))


# -- Runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"model": "upernet-tiny", "workers": 1, "epochs": 3}], ids=str)
def test_an_interrupted_run_goes_on_bit_for_bit(data, tmp_path, options):
    config = replace(QUICK, **options)
    whole = run(config, data, tmp_path / "whole")
    assert whole.num_trained < whole.num_full
    with pytest.raises(Interrupted):
        run(config, data, tmp_path / "cut", should_stop=stop_after(6))
    assert run(config, data, tmp_path / "cut").result == whole.result
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


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


def test_the_command_line_trains_compares_and_evaluates(call, folder, tmp_path):
    options = ["--task", "segmentation", "--data", "camvid", "--data-dir", folder, "--device", "cpu"]
    options += ["--model", "segformer-tiny", "--segmentation.crop", 32, "--batch-size", 10]
    code, out, error = call("compare", *options, "--epochs", 3, "--seeds", 1, "--out", tmp_path)
    assert code == 0, error
    assert "mIoU %" in out
    assert "Verdict" in out
    assert "mIoU" in (tmp_path / "report" / "report.md").read_text()
    code, out, error = call("eval", tmp_path / "infobatch-0.5" / "pruned" / "seed-0")
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


def test_options_of_segmentation_are_of_no_other_task():
    config = TrainConfig(segmentation=SegmentationOptions(crop=64))
    with pytest.raises(ValueError, match=r"--segmentation\.crop is for --task segmentation, not for"):
        check_config(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "whose config.json cannot be read .* a folder in which a segformer or upernet"),
        ("{", "whose config.json cannot be read .* a folder in which a segformer or upernet"),
        ('{"model_type": "bert"}', "a folder with a bert; give one with a segformer or upernet"),
    ],
)
def test_a_folder_with_another_model_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        check_config(replace(QUICK, model=str(tmp_path)))


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
