"""Pre-training of masked autoencoders: losses, masks, features, runs, fine-tuning, refusals."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers import changed, launch, run, stop_after
from infobatch.distributed import Replicas
from infobatch.lab.commands.options import load
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.data.masks import Masks
from infobatch.lab.models import make_model
from infobatch.lab.models.masked import SIZES, Size, make_masked, sine_positions
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks import feature_evaluation, mae
from infobatch.lab.tasks.mae import MaskedAutoencoding, masked_losses, unmasked
from infobatch.lab.tasks.metrics import KNN, RECONSTRUCTION
from infobatch.lab.tasks.registry import metric_of
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.validate import check_config, check_run

pytest.importorskip("transformers")

CPU = torch.device("cpu")
QUICK = changed(
    TrainConfig(
        task="mae", data="digits", model="mae-test", epochs=4, batch_size=128, optimizer="adamw",
        lr=3e-3, train_samples=500, device="cpu",
    ),
    {"mae.patch": 2},
)  # fmt: skip
TYPED = [*QUICK.to_arguments(), "--seed", "3"]


@pytest.fixture(autouse=True, scope="module")
def small():
    SIZES["mae-test"] = Size(4, 16, 1, 2, 16, 1, 2)
    yield
    del SIZES["mae-test"]


@pytest.fixture(scope="module")
def data():
    return load(QUICK)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("mae") / "run"
    run(QUICK, data, path)
    return path


def inputs_of(task, samples):
    samples = np.array(samples)
    batch = task.feed.collate([task.feed.dataset[abs(i)] for i in samples.tolist()])
    return task.inputs(batch, samples)


# -- The loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_mean_of_the_samples_losses_is_the_models_own(data, norm_pix_loss):
    config = changed(QUICK, {"mae.norm_pix_loss": norm_pix_loss})
    task = MaskedAutoencoding(config, data)
    task.begin(0)
    inputs = inputs_of(task, range(32))
    losses = task.train_outputs(inputs).losses
    assert losses.shape == (32,)
    own = task.model(inputs[0], noise=inputs[1]).loss
    assert losses.mean().item() == pytest.approx(own.item(), abs=1e-6)
    assert losses.std() > 0.01


def test_only_masked_patches_count():
    """Two patches of two numbers an image; errors 1 and 4 in the first, 9 and 25 in the second."""
    patches = torch.zeros(2, 2, 2)
    reconstructed = torch.tensor([[[1.0, 1.0], [2.0, 2.0]], [[3.0, 3.0], [5.0, 5.0]]])
    reconstructed.requires_grad_()
    masked = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    losses = masked_losses(patches, reconstructed, masked)
    assert losses.tolist() == [1.0, 17.0]
    losses.sum().backward()
    assert reconstructed.grad[0, 1].abs().sum() == 0
    assert (reconstructed.grad[0, 0] != 0).all()
    assert (reconstructed.grad[1] != 0).all()


def test_what_is_seen_of_an_image_is_not_what_is_masked(data):
    """A masked patch of the input does not reach the reconstruction, and a seen one does."""
    task = MaskedAutoencoding(QUICK, data)
    task.begin(0)
    images, order = inputs_of(task, [0])
    reconstructed, masked = task.forward(task.model, (images, order))
    pixels = torch.nn.Upsample(scale_factor=2)(masked.view(1, 1, 4, 4)).bool()
    assert torch.equal(
        task.forward(task.model, (images.masked_fill(pixels, 9.0), order))[0], reconstructed
    )
    assert not torch.equal(
        task.forward(task.model, (images.masked_fill(~pixels, 9.0), order))[0], reconstructed
    )


def test_gradients_reach_every_weight(data):
    task = MaskedAutoencoding(QUICK, data)
    task.begin(0)
    task.train_outputs(inputs_of(task, range(64))).losses.mean().backward()
    for name, weight in task.model.named_parameters():
        if not weight.requires_grad:
            assert "pos" in name
        elif not name.endswith("k_proj.bias"):  # adds the same to all of a row's logits
            assert weight.grad.abs().max() > 1e-7, name


def test_a_fresh_model_knows_where_its_patches_are(data):
    model = MaskedAutoencoding(QUICK, data).model
    table = sine_positions(4, 16)
    assert torch.equal(model.vit.embeddings.position_embeddings[0], table)
    assert torch.equal(model.decoder.decoder_pos_embed[0], table)
    assert torch.cdist(table, table)[~torch.eye(17, dtype=torch.bool)].min() > 0.5
    row, column = 2, 3
    place = table[1 + 4 * row + column]
    expected = [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    assert place[::4].tolist() == pytest.approx(expected, abs=1e-6)
    assert table[0].abs().sum() == 0
    assert model.decoder.mask_token.abs().min() > 0


def test_the_same_seed_makes_the_same_model(data):
    first, again = (MaskedAutoencoding(QUICK, data).model.state_dict() for _ in range(2))
    other = MaskedAutoencoding(replace(QUICK, seed=1), data).model.state_dict()
    name = "decoder.decoder_pred.weight"
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[name], other[name])


# -- The masks -------------------------------------------------------------------------------------


def masks(seed=0, epoch=0, num_patches=64):
    made = Masks(seed, num_patches, CPU)
    made.begin(epoch)
    return made


def test_a_mask_depends_on_seed_epoch_and_index_alone():
    indices = torch.arange(100)
    drawn = masks()(indices)
    assert torch.equal(masks()(indices.flip(0)).flip(0), drawn)
    assert torch.equal(masks()(torch.tensor([7])), drawn[7:8])
    for other in (masks(seed=1), masks(epoch=1)):
        assert (other(indices).argsort(1) != drawn.argsort(1)).any(1).all()


def test_masks_are_random():
    """Patches are masked alike, whatever the sample, its neighbours and the other patches."""
    ranks = masks()(torch.arange(20_000)).argsort(1).argsort(1)
    assert torch.equal(ranks.sort(1).values, torch.arange(64).expand(20_000, -1))
    masked = (ranks >= 16).double()
    assert masked.sum(1).unique().tolist() == [48]
    assert abs(masked.mean(0) - 0.75).max() < 5 * (0.75 * 0.25 / 20_000) ** 0.5
    together = torch.corrcoef(masked.T)
    expected = torch.full((64, 64), -1 / 63, dtype=torch.float64).fill_diagonal_(1)
    assert abs(together - expected).max() < 5.5 / 20_000**0.5
    assert abs((masked[1:] * masked[:-1]).mean() - 0.75**2) < 0.002


def test_a_repeat_that_fills_a_batch_is_masked_as_its_sample(data):
    task = MaskedAutoencoding(QUICK, data)
    task.begin(2)
    _, order = inputs_of(task, [5, 9])
    _, repeated = task.inputs(torch.tensor([5, 9]), np.array([5, ~9]))
    assert torch.equal(order, repeated)


# -- The evaluation --------------------------------------------------------------------------------


def test_neighbours_vote_by_cosine():
    train = torch.tensor([[1.0, 0.0], [2.0, 0.2], [0.0, 1.0], [-1.0, 0.0]])
    labels = torch.tensor([2, 2, 1, 0])
    test = torch.tensor([[5.0, 0.1], [0.1, 9.0], [-3.0, 0.0]])
    predicted = feature_evaluation.predict_by_neighbors(train, labels, test, 3)
    assert predicted.tolist() == [2, 1, 0]


def test_neighbours_are_found_in_chunks_as_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 8, generator=generator) for n in (300, 50))
    labels = torch.randint(4, (300,), generator=generator)
    whole = feature_evaluation.predict_by_neighbors(train, labels, test, 4)
    monkeypatch.setattr(feature_evaluation, "CHUNK_NUMBERS", 2100)
    assert torch.equal(feature_evaluation.predict_by_neighbors(train, labels, test, 4), whole)


def test_the_linear_probe_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    digits = load_data("digits")
    train, test = (part.pixels.flatten(1).float() for part in (digits.train, digits.test))
    train, test = feature_evaluation.standardized(train, test)
    ours = feature_evaluation.predict_by_linear_probe(train, digits.train.labels, test, 10).numpy()
    theirs = LogisticRegression(max_iter=500).fit(train.numpy(), digits.train.labels.numpy())
    assert (ours == theirs.predict(test.numpy())).mean() > 0.99


def test_the_features_are_of_whole_images(data):
    task = MaskedAutoencoding(QUICK, data)
    task.model.eval()
    images = task.feed.normalize(data.test.pixels[:4])
    with torch.no_grad():
        features = task._encoded(task.model, images)
        with unmasked(task.model):
            shuffled = torch.rand(4, 16)  # of all patches, in any order
            tokens = task.model.vit(images, noise=shuffled).last_hidden_state
    assert task.model.config.mask_ratio == 0.75
    torch.testing.assert_close(features, tokens[:, 1:].mean(1))
    changed_images = images.clone()
    changed_images[:, :, -1, -1] += 1
    with torch.no_grad():
        assert (task._encoded(task.model, changed_images) != features).any(1).all()


def test_processes_together_evaluate_what_one_does(data, monkeypatch):
    task = MaskedAutoencoding(QUICK, data)
    whole = task.evaluate()
    again = task.evaluate()
    assert again == whole
    sums = []
    for rank in range(2):
        monkeypatch.setattr(mae, "replicas", lambda rank=rank: Replicas(rank, 2))
        kept = []
        monkeypatch.setattr(mae, "total", lambda values, kept=kept: kept.append(values) or values)
        with torch.no_grad():
            task._test_losses(task.model)
        sums.append(kept[0])
    loss, count = sums[0] + sums[1]
    assert count == len(data.test)
    assert float(loss / count) == pytest.approx(whole.loss, rel=1e-6)


def test_the_metric_is_that_of_the_probe():
    assert metric_of(QUICK) == KNN
    assert metric_of(changed(QUICK, {"mae.evaluate": "none"})) == RECONSTRUCTION


# -- Runs ------------------------------------------------------------------------------------------


def test_a_run_learns_and_its_model_evaluates_to_its_result(data, trained):
    folder = RunFolder(trained)
    metrics, summary = folder.metrics(), folder.summary()
    assert metrics[-1].test_loss < metrics[0].test_loss - 0.02
    assert summary.num_trained < summary.num_full
    assert 25 < summary.result <= 100, "no better than a guess"
    assert len(summary.per_class) == 10
    task = MaskedAutoencoding(QUICK, data)
    folder.load_model(task.model)
    assert task.evaluate().result == summary.result == metrics[-1].result


@pytest.mark.parametrize("options", [{}, {"policy": "infobatch:by=smoothed_loss"}, {"ema_decay": 0.9}])
def test_an_interrupted_run_goes_on_bit_for_bit(data, tmp_path, options):
    config = replace(QUICK, epochs=3, **options)
    run(config, data, tmp_path / "whole")
    for stop in (2, 4):
        with pytest.raises(Interrupted):
            run(config, data, tmp_path / "cut", should_stop=stop_after(stop))
    run(config, data, tmp_path / "cut")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]
    scores = [dict(np.load(tmp_path / name / "scores.npz")) for name in ("whole", "cut")]
    assert all(np.array_equal(scores[0][key], scores[1][key]) for key in scores[0])


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "proportional:by=smoothed_loss", "target": 0.2},
        {"policy": "ies", "target": 0.1, "epochs": 6},
        {"policy": "none", "backward_share": 0.5, "precision": "bf16"},
        {"mae.evaluate": "linear"},
    ],
    ids=str,
)
def test_policies_and_options_train(data, tmp_path, options):
    config = changed(QUICK, options)
    check_config(config)
    check_run(config, data)
    assert run(config, data, tmp_path).num_nonfinite == 0


def test_the_command_line_compares_evaluates_and_reports(call, tmp_path):
    out = tmp_path / "compared"
    code, text, error = call("compare", *TYPED, "--epochs", "3", "--seeds", 1, "--out", out)
    assert code == 0, error
    assert "k-NN accuracy %" in text
    assert "Verdict" in text
    for file in ("report.md", "report.html"):
        assert (out / "report" / file).read_text().count("reconstruction loss") == 1
    code, text, error = call("eval", next(out.glob("**/summary.json")).parent)
    assert code == 0, error
    assert "k-NN accuracy" in text
    assert "reconstruction loss" in text


def test_runs_of_other_metrics_are_reported_apart(call, trained, tmp_path):
    options = ["--mae.evaluate", "none", "--epochs", "1"]
    code, text, error = call("train", *TYPED, *options, "--out", tmp_path / "run")
    assert code == 0, error
    assert "reconstruction loss 0." in text or "reconstruction loss 1." in text
    code, _, error = call("report", trained, tmp_path / "run", "--out", tmp_path / "report")
    assert code == 2
    assert "mae on digits by reconstruction loss" in error.replace("\n", " ")


def test_images_without_labels_are_trained_on(call, tmp_path):
    from PIL import Image

    for split, count in (("train", 6), ("val", 2)):
        (tmp_path / split).mkdir()
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 255, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{i}.png")
    options = ["--task", "mae", "--data", "images", "--data-dir", tmp_path, "--model", "mae-test"]
    options += ["--mae.patch", 56, "--batch-size", 2, "--epochs", 2, "--device", "cpu"]
    code, _, error = call("train", *options, "--out", tmp_path / "a")
    assert code == 2
    assert (
        "--mae.evaluate is knn, which needs labels, and images has none; give --mae.evaluate none"
        in error
    )
    assert not (tmp_path / "a").exists()
    code, text, error = call("train", *options, "--mae.evaluate", "none", "--out", tmp_path / "a")
    assert code == 0, error
    assert "reconstruction loss" in text


@pytest.mark.slow
def test_two_processes_train_what_one_trains(trained, tmp_path):
    program = f"""
        import sys
        import torch
        from infobatch.lab import cli
        from infobatch.lab.models.masked import SIZES, Size

        rank, _, folder = sys.argv[1:]
        SIZES["mae-test"] = Size(4, 16, 1, 2, 16, 1, 2)
        sys.argv = ["infobatch", "train", *{QUICK.to_arguments()}, "--out", folder + "/two"]
        cli.main()
        torch.save(None, f"{{folder}}/{{rank}}.pt")
    """
    launch(program, 2, tmp_path)
    one, two = RunFolder(trained), RunFolder(tmp_path / "two")
    assert torch.equal(one.scores()["visits"], two.scores()["visits"])
    assert two.summary().result == pytest.approx(one.summary().result, abs=1)
    torch.testing.assert_close(one.scores()["last_loss"], two.scores()["last_loss"], atol=2e-3, rtol=0)


# -- Fine-tuning -----------------------------------------------------------------------------------


def test_the_encoders_weights_arrive_in_the_classifier(trained, data):
    model = make_model(str(trained), 1, 10)
    saved = load_file(trained / "model.safetensors")
    ours = model.encoder.state_dict()
    assert {f"vit.{name}" for name in ours} == {name for name in saved if name.startswith("vit.")}
    for name, weight in ours.items():
        assert torch.equal(weight, saved[f"vit.{name}"]), name
    task = MaskedAutoencoding(QUICK, data)
    RunFolder(trained).load_model(task.model)
    images = task.feed.normalize(data.test.pixels[:8])
    model.eval()
    task.model.eval()
    with torch.no_grad():
        tokens = model.encoder(images).last_hidden_state[:, 1:].mean(1)
        torch.testing.assert_close(tokens, task._encoded(task.model, images))
        torch.testing.assert_close(model(images), model.head(tokens))


def test_a_run_is_fine_tuned_and_pruned(call, trained, tmp_path):
    options = ["--data", "digits", "--model", trained, "--epochs", 4, "--batch-size", 64]
    options += ["--optimizer", "adamw", "--lr", "5e-3", "--device", "cpu", "--out", tmp_path / "run"]
    code, text, error = call("train", *options)
    assert code == 0, error
    summary = RunFolder(tmp_path / "run").summary()
    assert summary.result > 18, "no better than a guess"
    assert summary.num_trained < summary.num_full
    code, text, error = call("eval", tmp_path / "run")
    assert code == 0, error
    assert f"accuracy {summary.result:.2f} %" in text


# -- Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "mae-tyny"}, "no model of --task mae 'mae-tyny'; did you mean mae-tiny"),
        (
            {"model": "a/b"},
            "--model is a/b, whose config.json .* give a folder that transformers saved",
        ),
        ({"mae.mask_ratio": 1.0}, "--mae.mask-ratio is 1.0; it must be between 0 and 1"),
        ({"mae.patch": -1}, "--mae.patch is -1; it must be at least 1"),
        ({"mae.smallest_crop": 0.0}, "--mae.smallest-crop is 0.0; it must be above 0"),
        ({"mixup": 0.5}, "--mixup is for --task classification, not for mae"),
        ({"probe": 5}, "--probe is for --task classification, not for mae"),
        ({"policy": "el2n"}, "goes by scores of a classifier, and --task is mae"),
        ({"policy": "proportional:by=gradient_norm"}, "reads gradient norms, and --task mae has none"),
        ({"task": "classification", "model": "resnet8"}, "--mae.patch is for --task mae"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(changed(QUICK, options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mae.patch": 3},
            "patches of 3 pixels do not divide images of 8x8; give --mae.patch, one of 1",
        ),
        ({"mae.patch": 8}, "--mae.mask-ratio is 0.75, which masks every patch of an image's 1; lower"),
        ({"mae.mask_ratio": 0.01, "mae.patch": 4}, None),
        ({"mae.mask_ratio": 1e-17}, "is 1e-17, which masks no patch of an image's 16; raise it"),
        ({"mae.mask_ratio": 0.95}, "is 0.95, which masks every patch of an image's 16; lower it"),
        ({"mae.patch": 1}, "--mae.patch is 1, and nothing is left of one pixel normalized"),
    ],
)
def test_options_that_do_not_fit_the_images_are_refused(data, options, message):
    config = changed(QUICK, options)
    check_config(config)
    if message is None:
        check_run(config, data)
        return
    with pytest.raises(ValueError, match=message):
        check_run(config, data)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model that transformers saved, for images of 8x8 pixels and one channel."""
    path = tmp_path_factory.mktemp("saved") / "model"
    torch.manual_seed(5)
    make_masked("mae-test", (1, 8, 8), QUICK.mae).save_pretrained(path)
    return path


def test_a_saved_model_is_trained_further(data, saved):
    config = changed(replace(QUICK, model=str(saved)), {"mae.mask_ratio": 0.5, "mae.patch": 0})
    check_config(config)
    check_run(config, data)
    task = MaskedAutoencoding(config, data)
    torch.manual_seed(5)
    weights = make_masked("mae-test", (1, 8, 8), QUICK.mae).state_dict()
    assert weights.keys() == task.model.state_dict().keys()
    assert all(torch.equal(task.model.state_dict()[name], weights[name]) for name in weights)
    task.begin(0)
    assert task.forward(task.model, inputs_of(task, [0]))[1].sum() == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "mnist5k"}, "is for images of 8x8 pixels and 1 channels, and the data's are of 28x28"),
        ({"mae.patch": 4}, "--mae.patch is 4, and --model .* has patches of 2 pixels; leave it out"),
    ],
)
def test_a_saved_model_needs_its_images(saved, options, message):
    config = changed(replace(QUICK, model=str(saved)), options)
    check_config(config)
    with pytest.raises(ValueError, match=message):
        check_run(config, load(config))


def test_a_saved_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"holds a model of type 'bert' of transformers; .* needs"):
        check_config(replace(QUICK, model=str(tmp_path)))


def test_fine_tuning_needs_a_finished_run_and_its_images(trained, tmp_path):
    config = TrainConfig(data="digits", model=str(tmp_path / "none"), device="cpu")
    with pytest.raises(
        ValueError, match=r"config\.json cannot be read .* folder of a run of --task mae"
    ):
        check_config(config)
    RunFolder(tmp_path / "a").create(replace(config, model="small-cnn"))
    with pytest.raises(ValueError, match="is a run of --task classification; give one of --task mae"):
        check_config(replace(config, model=str(tmp_path / "a")))
    RunFolder(tmp_path / "b").create(QUICK)
    with pytest.raises(ValueError, match=r"holds no finished run \(model\.safetensors"):
        check_config(replace(config, model=str(tmp_path / "b")))
    config = replace(config, data="mnist5k", model=str(trained))
    check_config(config)
    with pytest.raises(ValueError, match=r"was trained on images of 8x8 pixels and 1 channels, and the"):
        check_run(config, load(config))


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers: pip install 'infobatch\[tasks"):
        check_config(QUICK)
