"""Pre-training of masked autoencoders: losses, features, runs and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import changed, launch, run, stop_after
from helpers.mae import QUICK, inputs_of
from infobatch.distributed import Replicas
from infobatch.lab.commands.loading import load
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks import mae
from infobatch.lab.tasks.mae import MaskedAutoencoding, masked_losses, unmasked
from infobatch.lab.training.pauses import Interrupted
from infobatch.lab.training.validate import check_config, check_run

pytest.importorskip("transformers")


pytestmark = pytest.mark.usefixtures("masked_size")

TYPED = [*QUICK.to_arguments(), "--seed", "3"]


@pytest.fixture(scope="module")
def data():
    return load(QUICK)


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


def test_the_same_seed_makes_the_same_model(data):
    first, again = (MaskedAutoencoding(QUICK, data).model.state_dict() for _ in range(2))
    other = MaskedAutoencoding(replace(QUICK, seed=1), data).model.state_dict()
    name = "decoder.decoder_pred.weight"
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[name], other[name])


def test_a_repeat_that_fills_a_batch_is_masked_as_its_sample(data):
    task = MaskedAutoencoding(QUICK, data)
    task.begin(2)
    _, order = inputs_of(task, [5, 9])
    _, repeated = task.inputs(torch.tensor([5, 9]), np.array([5, ~9]))
    assert torch.equal(order, repeated)


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


def test_a_run_learns_and_its_model_evaluates_to_its_result(data, masked_run):
    folder = RunFolder(masked_run)
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
        {"policy": "noise-budget:max_noise=1.3"},
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


def test_runs_of_other_metrics_are_reported_apart(call, masked_run, tmp_path):
    options = ["--mae.evaluate", "none", "--epochs", "1"]
    code, text, error = call("train", *TYPED, *options, "--out", tmp_path / "run")
    assert code == 0, error
    assert "reconstruction loss 0." in text or "reconstruction loss 1." in text
    code, _, error = call("report", masked_run, tmp_path / "run", "--out", tmp_path / "report")
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
    options += ["--mae.patch", 56, "--batch-size", 3, "--epochs", 2, "--device", "cpu"]
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
def test_two_processes_train_what_one_trains(masked_run, tmp_path):
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
    one, two = RunFolder(masked_run), RunFolder(tmp_path / "two")
    assert torch.equal(one.scores()["visits"], two.scores()["visits"])
    assert two.summary().result == pytest.approx(one.summary().result, abs=1)
    torch.testing.assert_close(one.scores()["last_loss"], two.scores()["last_loss"], atol=2e-3, rtol=0)


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
        ({"policy": "el2n"}, "goes by scores of a classifier of images, and --task is mae"),
        ({"policy": "proportional:by=gradient_norm"}, "reads gradient norms, and --task mae has none"),
        ({"task": "classification", "model": "resnet8"}, "--mae.patch is for --task mae"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(changed(QUICK, options))
