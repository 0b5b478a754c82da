"""Options that could only fail later are refused; those of a task are with the task's tests."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import run, tables
from helpers.digits import LOOKING, QUICK
from infobatch.lab.config.task_options import TabularOptions
from infobatch.lab.data import load_data
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.validate import check_config, check_run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "digit"}, "no data set 'digit'; did you mean digits"),
        ({"model": "resnet9"}, "no model 'resnet9'; did you mean"),
        ({"policy": "infobach"}, "no policy 'infobach'; did you mean infobatch"),
        ({"prune_ratio": 1.0}, "--prune-ratio is 1.0; it must be at least 0 and less than 1"),
        ({"delta": 1.5}, "--delta is 1.5; it must be between 0 and 1"),
        ({"epochs": 0}, "--epochs is 0; it must be above 0"),
        ({"batch_size": 1}, "--batch-size is 1"),
        ({"lr": 0.0}, "--lr is 0.0"),
        ({"device": "abacus"}, "--device is 'abacus'"),
        ({"optimizer": "larch"}, "no optimizer 'larch'; did you mean lars"),
        ({"stem_stride": 2}, "--stem-stride is 2, but small-cnn has no such stem"),
        ({"mixup": 0.2, "cutmix": 1.0}, "--mixup is 0.2 and --cutmix 1; give one of them"),
        ({"ema_decay": 1.0}, "--ema-decay is 1.0"),
        ({"clip_norm": -1.0}, "--clip-norm is -1.0"),
        ({"backward_share": 0.0}, "--backward-share is 0.0; it must be above 0 and at most 1"),
        ({"backward_share": 0.5}, "--backward-share is 0.5 and --policy infobatch; .* --policy none"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(replace(QUICK, **options))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"warmup_epochs": 1}, ValueError, "--warmup-epochs 1: .* give --warmup-epochs 0 to prune"),
        ({"policy": "none"}, ValueError, "--prior-scores is pass, and --policy none reads none"),
        (
            {"prior_scores": "no.npz"},
            FileNotFoundError,
            r"--prior-scores is no\.npz, and there is no such file",
        ),
    ],
)
def test_scores_without_effect_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        check_config(replace(LOOKING, **options))


def test_scores_of_other_data_are_refused_before_training(data, tmp_path):
    np.savez(tmp_path / "scores.npz", last_loss=np.ones(7, np.float32))
    with pytest.raises(ValueError, match=r"scores of .* have shape \(7,\), and the dataset has 1,400"):
        check_run(replace(LOOKING, prior_scores=str(tmp_path / "scores.npz")), data)


def test_scores_of_a_run_on_other_samples_are_refused_before_training(data, tmp_path):
    (tmp_path / "subset.json").write_text(str(list(range(900))))
    other = replace(LOOKING, prior_scores="", warmup_epochs=1, epochs=1, subset=tmp_path / "subset.json")
    run(other, data.subset(torch.arange(900)), tmp_path / "other")
    config = replace(LOOKING, prior_scores=str(tmp_path / "other" / "scores.npz"), train_samples=900)
    message = r"scores\.npz are of a run with --subset .*subset\.json, and this one has --subset None"
    with pytest.raises(ValueError, match=message):
        check_run(config, data.split(0, 900))
    check_run(replace(config, subset=other.subset, train_samples=0), data.subset(torch.arange(900)))


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"data_mark": "a"}, r"scores\.npz are of a run on other data, though both are called table"),
        (
            {"tabular": TabularOptions("price")},
            r"of a run with --tabular\.target price, and this one has",
        ),
        ({"data_mark": "b"}, None),
        ({}, None),
    ],
)
def test_scores_of_another_table_are_refused(tmp_path, theirs, message):
    data = load_data("breast-cancer")
    config = replace(tables.QUICK, data="table", data_mark="b", policy="infobatch", warmup_epochs=0)
    folder = RunFolder(tmp_path)
    folder.create(replace(config, **{"data_mark": "", **theirs}))
    np.savez(folder.scores_path, last_loss=np.ones(len(data.train), np.float32))
    config = replace(config, prior_scores=str(folder.scores_path))
    if message is None:
        check_run(config, data)
        return
    with pytest.raises(ValueError, match=message):
        check_run(config, data)
