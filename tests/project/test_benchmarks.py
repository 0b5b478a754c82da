"""The benchmarks run; what they find is told elsewhere."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.benchmarks import BENCHMARKS, benchmark
from infobatch.policies import POLICIES


@pytest.fixture(autouse=True)
def _found_by_one_another(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture(scope="module")
def distributed():
    return benchmark("distributed")


@pytest.mark.parametrize("policy", ["mean", "tiers", "random"])
def test_the_plan_of_one_rank_of_many(policy, distributed, capsys):
    distributed.plan_cost(70_000, policy)
    seconds, processor, megabytes = json.loads(capsys.readouterr().out)
    assert 0 < seconds < 5
    assert 0 < processor < 5
    assert megabytes < 300


@pytest.mark.slow
def test_a_step_and_a_collective(distributed):
    times = distributed.in_processes("step", 3, 8)
    assert {name: len(values) for name, values in times.items()} == {"ours": 3, "plain": 3, "again": 3}
    times = distributed.in_processes("collective", 500, 2)
    assert all(value > 0 for values in times.values() for value in values)


def test_each_part_of_the_noise_budget_is_taken_away_alone(tmp_path, capsys, monkeypatch):
    from infobatch.lab.recipes import RECIPES

    recipe = RECIPES["mnist5k-small-cnn"]
    config = replace(recipe.make(), data="digits")
    monkeypatch.setitem(RECIPES, "tiny", replace(recipe, name="tiny", make=lambda: config))
    parts = benchmark("parts")
    for name, policy in parts.OWN_POLICIES.items():
        monkeypatch.setitem(POLICIES, name, policy)
    options = ["--recipe", "tiny", "--epochs", "4", "--noise", "1.3", "--seeds", "1", "--device", "cpu"]
    options += ["--out", str(tmp_path / "runs"), "--json", str(tmp_path / "p.json")]
    monkeypatch.setattr("sys.argv", ["parts.py", *options])
    parts.main()
    rows = {row["name"]: row for row in json.loads((tmp_path / "p.json").read_text())["results"]}
    without = ["fewer steps", "losses for norms", "stale norms", "plain batch norm"]
    assert [*rows] == ["full", "all parts", *without]
    assert len({tuple(row["results"].values()) for row in rows.values()}) > 4, "they are other runs"
    assert rows["stale norms"]["saved"] > rows["all parts"]["saved"] > 0
    assert "against full data, and against all parts" in capsys.readouterr().out


def test_a_budget_is_kept_by_norms_that_are_given(tmp_path, capsys, monkeypatch):
    options = ["--recipe", "tiny", "--epochs", "5", "--seeds", "1", "--json", str(tmp_path / "g.json")]
    from infobatch.lab.recipes import RECIPES

    recipe = RECIPES["flights-mlp"]
    config = replace(recipe.make(), data="breast-cancer", batch_size=32)
    monkeypatch.setitem(RECIPES, "tiny", replace(recipe, name="tiny", make=lambda: config))
    monkeypatch.setattr("sys.argv", ["given_norms.py", *options])
    benchmark("given_norms").main()
    runs = json.loads((tmp_path / "g.json").read_text())["results"]
    assert len(runs) == 12
    for run in runs:
        assert (run["saved"] > 0) == (run["way"] != "full data") == (run["noise"] is not None)
        if run["way"] == "given" or (run["loss"], run["way"]) == ("cross-entropy", "from losses"):
            assert run["noise"] == pytest.approx(run["noise_that_was"], rel=0.02)
    smoothed = {run["way"]: run for run in runs if run["loss"] == "label smoothing"}
    assert smoothed["given"]["saved"] > 1.5 * smoothed["from losses"]["saved"]
    assert smoothed["from losses"]["noise"] > smoothed["from losses"]["noise_that_was"]
    assert "label smoothing given " in capsys.readouterr().out


def test_means_tell_hopeless_prompts_from_those_without_a_spread_by_chance(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["hopeless_prompts.py", "--prompts", "1000", "--seeds", "1"])
    benchmark("hopeless_prompts").main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    kept = {(row[0], row[2]): float(row[-1]) for row in rows}
    assert kept["smoothed_norm,", "hopeless"] < 0.35 < kept["gradient_norm,", "hopeless"]


def test_what_recording_costs(tmp_path, capsys, monkeypatch):
    options = [
        "--data",
        "digits",
        "--epochs",
        "2",
        "--device",
        "cpu",
        "--json",
        str(tmp_path / "r.json"),
    ]
    monkeypatch.setattr("sys.argv", ["recording.py", *options])
    benchmark("recording").main()
    results = json.loads((tmp_path / "r.json").read_text())
    assert 0 < results["bytes a sample and epoch, on disk"] < 5
    assert results["bytes a sample, in memory"] == 8
    assert "share of a step" in capsys.readouterr().out


def test_policies_are_compared_in_four_forms(tmp_path, capsys, monkeypatch):
    from infobatch.lab.recipes import RECIPES

    recipe = RECIPES["mnist5k-small-cnn"]
    config = replace(recipe.make(), data="digits")
    monkeypatch.setitem(RECIPES, "tiny", replace(recipe, name="tiny", make=lambda: config))
    options = ["--recipe", "tiny", "--epochs", "4", "--save", "25", "--policies", "neyman,random"]
    options += ["--seeds", "1", "--device", "cpu", "--out", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["forms.py", *options, "--json", str(tmp_path / "f.json")])
    benchmark("forms").main()
    rows = {row["name"]: row for row in json.loads((tmp_path / "f.json").read_text())["results"]}
    forms = [f"neyman, {form}" for form in ("steps, plain", "steps, weighted")]
    forms += [f"neyman, {form}" for form in ("batches, plain", "batches, weighted")]
    controls = ["fewer epochs", "fewer epochs, higher rate", "fewer epochs, same steps"]
    assert [*rows] == ["full", *controls, *forms, "random, steps, plain", "random, batches, plain"]
    saved = {name: row["saved"] for name, row in rows.items()}
    assert saved == pytest.approx({**dict.fromkeys(saved, 0.25), "full": 0}, abs=1e-3)
    assert len({tuple(rows[name]["results"].values()) for name in forms}) > 2, "they are other runs"
    assert "against the policy's first form" in capsys.readouterr().out
    options[options.index("neyman,random")] = "random"
    more = ["--only", "batches", "--delta", "1", "--json", str(tmp_path / "g.json")]
    monkeypatch.setattr("sys.argv", ["forms.py", *options, *more])
    benchmark("forms").main()
    again = {row["name"]: row for row in json.loads((tmp_path / "g.json").read_text())["results"]}
    assert [*again] == ["full", *controls, "random, batches, plain, delta 1"]
    assert all(again[name]["results"] == rows[name]["results"] for name in ("full", *controls))
    assert again["random, batches, plain, delta 1"]["saved"] == pytest.approx(0.25, abs=1e-3)
    options[options.index(str(tmp_path / "runs"))] = str(tmp_path / "alone")
    monkeypatch.setattr("sys.argv", ["forms.py", *options, *more, "--no-controls"])
    benchmark("forms").main()
    (alone,) = json.loads((tmp_path / "g.json").read_text())["results"]
    assert alone["results"] == again["random, batches, plain, delta 1"]["results"]
    assert alone["against_full"] == "", "of full data it has no run"


def test_the_choices_of_rescaling_are_compared_and_kept(tmp_path, capsys, monkeypatch):
    from infobatch.lab.recipes import RECIPES

    recipe = RECIPES["mnist5k-small-cnn"]
    config = replace(recipe.make(), data="digits")
    monkeypatch.setitem(RECIPES, "tiny", replace(recipe, name="tiny", make=lambda: config))
    out = tmp_path / "runs"
    options = ["--recipe", "tiny", "--epochs", "3", "--optimizers", "sgd", "--save", "20"]
    options += ["--seeds", "1", "--device", "cpu", "--out", str(out), "--json", str(tmp_path / "r.json")]
    monkeypatch.setattr("sys.argv", ["normalizers.py", *options])
    normalizers = benchmark("normalizers")
    normalizers.main()
    rows = json.loads((tmp_path / "r.json").read_text())["results"]
    assert [row["choice"] for row in rows] == [
        "full",
        *(f"{normalizer}, rate {scaling}" for normalizer, scaling in normalizers.CHOICES),
    ]
    accuracies = {row["choice"]: row["accuracy"][0] for row in rows}
    assert all(50 < accuracy <= 100 for accuracy in accuracies.values())
    assert accuracies["mean, rate none"] != accuracies["batch, rate none"]
    before = {file: file.stat().st_mtime_ns for file in out.rglob("summary.json")}
    normalizers.main()
    assert {file: file.stat().st_mtime_ns for file in out.rglob("summary.json")} == before


def test_every_policys_selection_is_timed_beside_an_epoch(tmp_path, monkeypatch, capsys):
    path = tmp_path / "selection.json"
    options = ["--samples", "1000", "--repeats", "2", "--steps", "2", "--recipe", "mnist5k-small-cnn"]
    monkeypatch.setattr(sys, "argv", ["selection.py", *options, "--rate", "100", "--json", str(path)])
    benchmark("selection").main()
    found = json.loads(path.read_text())
    assert [row["policy"] for row in found["results"]] == list(POLICIES)
    rate = found["environment"]["images a second"]
    for row in found["results"]:
        assert 0 < row["low"] <= row["milliseconds"] <= row["high"]
        assert row["given"] == pytest.approx(row["milliseconds"] / 1e3 * 100 / 1000 * 100)
        assert row["measured"] == pytest.approx(row["given"] * rate / 100, rel=0.01)
        assert row["verdict"] == ("ok" if row["measured"] <= 1 else "over")
    assert "% of an epoch" in capsys.readouterr().out


def test_reliability_and_the_share_of_classes_are_what_they_should_be():
    """Half of the variance between samples; and of a class mean's, 4 / (4 + 1)."""
    scores = benchmark("timestep_scores")
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(4000, generator=generator)
    noise = torch.randn(8, 4000, generator=generator)
    assert scores.reliability(own + noise) == pytest.approx(0.5, abs=0.03)
    assert scores.reliability(noise) == pytest.approx(0, abs=0.01)
    assert scores.rank_correlation(own.expand(8, -1), own.expand(8, -1)) == pytest.approx(1)
    assert abs(scores.rank_correlation(noise, noise)) < 0.05
    labels = torch.arange(4000) % 2
    assert scores.share_of_classes(own + 4 * labels, labels) == pytest.approx(0.8, abs=0.02)
    assert scores.share_of_classes(own, labels) == pytest.approx(0, abs=0.002)


def test_scores_normalized_by_timestep_are_the_more_reliable():
    """A sample's loss is a factor of its own, times one of the timestep and one of chance."""
    scores = benchmark("timestep_scores")
    generator = torch.Generator().manual_seed(0)
    own, chance = (1 + 0.2 * torch.randn(shape, generator=generator) for shape in (500, (8, 500)))
    timesteps = torch.randint(1000, (8, 500), generator=generator)
    losses = own * chance * torch.exp(-timesteps / 200)
    freed = scores.normalized(losses, timesteps, 1000, 100)
    assert scores.reliability(own * chance) == pytest.approx(0.5, abs=0.1)
    assert scores.reliability(freed) > 0.35
    assert scores.reliability(losses) < 0.1
    assert scores.rank_correlation(freed, freed) > 2 * scores.rank_correlation(losses, freed)


def test_the_noise_of_scores_is_split_as_it_was_made(capsys):
    """Scores of mean i with noise of deviation 2: reliability 4 / (4 + 4) alone, 4 / (4 + 1) of four."""
    noise = benchmark("score_noise")
    rng = np.random.default_rng(0)
    draws = 2 * rng.standard_normal(20_000) + 2 * rng.standard_normal((4, 20_000))
    between, within = noise.variances(draws)
    assert between == pytest.approx(4, rel=0.05)
    assert within == pytest.approx(4, rel=0.05)
    rows = noise.table(draws)
    assert rows[0].reliability == rows[0].of_plain_mean == pytest.approx(0.5, abs=0.02)
    assert rows[3].of_plain_mean == pytest.approx(0.8, abs=0.02)
    shares = np.array([0.8**3, 0.2 * 0.8**2, 0.2 * 0.8, 0.2])
    assert rows[3].reliability == pytest.approx(1 / (1 + (shares**2).sum()), abs=0.02)
    expected = (1 / (1 + 1)) ** 0.5 * (4 / (4 + 4 / 3)) ** 0.5  # of one and the mean of three
    assert rows[0].rank_correlation == pytest.approx(6 / np.pi * np.arcsin(expected / 2), abs=0.02)
    assert rows[3].rank_correlation is None


def test_the_noise_of_a_crops_scores_is_measured(tmp_path, monkeypatch, capsys):
    path = tmp_path / "noise.json"
    options = ["--recipe", "mnist5k-small-cnn", "--epochs", "1", "--train-samples", "600"]
    options += ["--samples", "200", "--draws", "3", "--device", "cpu", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["score_noise.py", *options])
    benchmark("score_noise").main()
    found = json.loads(path.read_text())
    assert found["samples"] == 200
    assert found["between"] > 0 < found["within"]
    assert [row["visits"] for row in found["rows"]] == [1, 2, 3]
    reliabilities = [row["reliability"] for row in found["rows"]]
    assert 0 < reliabilities[0] < reliabilities[1] < reliabilities[2] < 1
    assert "rank correlation" in capsys.readouterr().out


def test_independent_draws_stay_unbiased_while_losses_move_and_spaced_ones_lean(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "moving.json"
    options = ["--policies", "neyman,spaced", "--samples", "200", "--epochs", "8", "--runs", "10"]
    monkeypatch.setattr(sys, "argv", ["moving_losses.py", *options, "--json", str(path)])
    benchmark("moving_losses").main()
    rows = json.loads(path.read_text())["results"]
    neyman, growing, spaced, spaced_growing = rows
    for row in (neyman, growing):
        assert row["ratio"] == pytest.approx(1, abs=3 * row["half_width"])
        assert row["just_trained"] == pytest.approx(1, abs=0.1)
    assert 1 < spaced["ratio"] < spaced_growing["ratio"] < 1.1
    assert spaced["just_trained"] < 0.9 < 1.2 < spaced["others"]
    assert "sum ÷ true sum" in capsys.readouterr().out
