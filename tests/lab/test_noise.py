"""The noise and the bias of a step's gradient: worked examples, true gradients, no trace in a run."""

import itertools
import json
import re
from dataclasses import replace
from statistics import fmean

import pytest
import torch

from helpers import made, random_losses, table_of
from infobatch import InfoBatch, RandomPruning
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.report import read_comparison
from infobatch.lab.report.noise import NOISE_NOTE, noise_rows, noise_table
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.classification import Classification
from infobatch.lab.training.gradient_noise import estimate_noise, influence_of, products_over_all
from infobatch.lab.training.train import train
from infobatch.losses import classification_losses
from infobatch.policies import POLICIES, BiasedPolicy, KeepProbabilities, Policy, Request
from infobatch.policies.ranking import ones_at
from infobatch.scores import ScoreTable

QUICK = TrainConfig(
    data="digits", epochs=5, batch_size=128, device="cpu", delta=1, target=0.3, train_samples=600
)

# |g|^2 = 9, 1, 1, 1; their mean is (1, 1/2), so that full data's noise is 12/4 - 5/4 = 7/4.
GRADIENTS = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
EVERY = torch.arange(4)


class Fixed(Policy):
    """Keeps four samples with given probabilities."""

    def __init__(self, *probabilities):
        self.probabilities = torch.tensor(probabilities, dtype=torch.float64)

    def keep_probabilities(self, scores, request):
        return KeepProbabilities(self.probabilities)

    def check_target(self, num_pruned, num_samples):
        pass


class Highest(BiasedPolicy):
    """Keeps the half with the highest losses."""

    def weights(self, scores, request):
        order = scores["last_loss"].argsort(descending=True).numpy()
        return ones_at(order[: len(order) // 2], len(scores))


def request(number):
    return Request(None, torch.Generator().manual_seed(number), epoch=1, prunable=range(1, 5))


def noise_of(policy, gradients=GRADIENTS, table=None):
    table = table or ScoreTable.from_losses(torch.tensor([2.0, 1.0, 2.0, 1.0]))
    counts = influence_of(policy, table, request, torch.arange(len(gradients)))
    return estimate_noise([[gradients]], counts, len(gradients))


def in_chunks(gradients, size, first):
    """As a task gives them: in parts of the samples, each of two parameters."""
    return ([part[:, :first, None], part[:, first:]] for part in gradients.split(size))


def test_keeping_everything_is_full_data():
    noise = noise_of(Fixed(1, 1, 1, 1))
    assert noise.ratio == pytest.approx(1)
    assert noise.bias == 0


def test_random_pruning_is_as_noisy_as_full_data():
    noise = noise_of(RandomPruning(0.5))
    assert noise.ratio == pytest.approx(1)
    assert noise.bias == 0


def test_the_noise_of_an_unbiased_policy_is_that_of_horvitz_and_thompson():
    # k = 3 of 4: [3/4 (9 + 1/.5 + 1 + 1/.5) / 4 - 5/4] / (7/4) = (21/8 - 10/8) / (14/8).
    noise = noise_of(Fixed(1, 0.5, 1, 0.5))
    assert noise.ratio == pytest.approx(11 / 14)
    assert noise.bias == 0
    # The wrong way about: [3/4 (9/.5 + 1 + 1/.5 + 1) / 4 - 5/4] / (7/4).
    assert noise_of(Fixed(0.5, 1, 0.5, 1)).ratio == pytest.approx((33 / 8 - 10 / 8) / (14 / 8))


def test_the_noise_is_the_variance_over_every_draw_there_is():
    """Steps of one sample, each of every possible selection of a stratum: their variance outright."""
    keep = KeepProbabilities(torch.tensor([0.5, 1.0]), torch.tensor([0, 0, 0, 0, 1, 1]).to(torch.uint8))
    gradients = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()
    steps = [
        gradients[i] * (2.0 if i < 4 else 1.0) * 4 / 6  # of mean 1 over the 4 of 6 that are kept
        for pair in itertools.combinations(range(4), 2)
        for i in (*pair, 4, 5)
    ]
    variance = torch.stack(steps).var(0, correction=0).sum()
    expected = variance / gradients.var(0, correction=0).sum()

    class Strata(Fixed):
        def keep_probabilities(self, scores, request):
            return keep

    noise = noise_of(Strata(), gradients, ScoreTable.from_losses(torch.ones(6)))
    assert noise.ratio == pytest.approx(float(expected))


def test_the_bias_of_the_harder_half_is_known():
    # Samples 0 and 2, of weight 2: they point to (2, 0), and |(2, 0) - (1, 1/2)| = |(1, 1/2)|.
    # Of noise: [2/4 (4 x 9 + 4 x 1) / 4 - 4] / (7/4).
    noise = noise_of(Highest())
    assert noise.bias == pytest.approx(1)
    assert noise.ratio == pytest.approx(4 / 7)


def test_draws_that_leave_out_all_alike_have_no_bias():
    """RS2 with no visits yet draws all alike: what is left is the chance of 32 draws, removed."""
    gradients = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) + 1
    table = table_of(random_losses(500), POLICIES["ucb"]())
    table["visits"].zero_()
    noise = noise_of(POLICIES["rs2"](), gradients, table)
    assert noise.bias < 0.02
    assert noise.ratio == pytest.approx(1, abs=0.03)
    assert noise_of(Highest(), gradients * table["last_loss"][:, None], table).bias > 0.5


def test_a_probe_estimates_what_all_samples_give():
    """Over every probe of 4 of 6 the inner products of means are, in the mean, those of all 6."""
    vectors = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1)).double()

    def estimated(chosen):
        part = vectors[:, chosen]
        singles = torch.einsum("and,bnd->ab", part, part) / len(chosen)
        means = part.mean(1)
        return products_over_all(means @ means.T, singles, len(chosen), 6)

    probes = [estimated(list(chosen)) for chosen in itertools.combinations(range(6), 4)]
    means = vectors.mean(1)
    assert torch.stack(probes).mean(0).numpy() == pytest.approx((means @ means.T).numpy())
    assert estimated(list(range(6))).numpy() == pytest.approx((means @ means.T).numpy())


def test_chunks_and_parameters_do_not_matter():
    gradients = torch.randn(50, 7, generator=torch.Generator().manual_seed(2))
    table = ScoreTable.from_losses(random_losses(50))
    counts = influence_of(InfoBatch(), table, request, torch.arange(50))
    whole = estimate_noise([[gradients]], counts, 80)
    parts = estimate_noise(in_chunks(gradients, 8, first=3), counts, 80)
    assert parts.ratio == pytest.approx(whole.ratio, rel=1e-5)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_be_measured(name):
    policy = made(POLICIES[name], 200)
    table = table_of(random_losses(200), policy)
    gradients = torch.randn(200, 5, generator=torch.Generator().manual_seed(3)) + 0.5
    noise = noise_of(policy, gradients * table["last_loss"][:, None], table)
    assert 0.2 < noise.ratio < 5
    assert 0 <= noise.bias < 1 if isinstance(policy, BiasedPolicy) else noise.bias == 0


def test_gradients_of_no_size_have_no_noise_to_compare_with():
    noise = noise_of(InfoBatch(), torch.zeros(4, 2))
    assert noise.ratio is None
    assert noise.bias is None


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.mark.parametrize("options", [{}, {"norm": "group", "model": "resnet8"}, {"mixup": 0.2}])
def test_gradients_are_those_of_each_sample_alone(data, options):
    task = Classification(replace(QUICK, **options), data)
    task.begin(7)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    samples = torch.tensor([3, 1400 - 1, 77]).numpy()
    (chunk,) = task.gradients(samples)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
    assert task.model.training
    task.model.eval()
    images, targets = task.inputs(torch.from_numpy(samples), samples)
    for i in range(3):
        logits = task.model(images[i : i + 1])
        loss = classification_losses(logits, targets[i : i + 1], label_smoothing=0.1).sum()
        alone = torch.autograd.grad(loss, list(task.model.parameters()))
        for ours, theirs in zip(chunk, alone, strict=True):
            assert ours[i].numpy() == pytest.approx(theirs.numpy(), abs=1e-5, rel=1e-3)


def trained(config, data, path):
    folder = RunFolder(path)
    folder.create(config)
    part = data.split(0, config.train_samples)
    train(config, part, folder)
    return folder


@pytest.mark.parametrize("options", [{}, {"policy": "rs2"}, {"cutmix": 1.0, "ema_decay": 0.9}])
def test_measuring_leaves_no_trace(data, tmp_path, options):
    config = replace(QUICK, **options)
    plain = trained(config, data, tmp_path / "plain")
    probed = trained(replace(config, probe=100), data, tmp_path / "probed")
    weights = [(folder.path / "model.safetensors").read_bytes() for folder in (plain, probed)]
    assert weights[0] == weights[1]
    scores = [folder.scores() for folder in (plain, probed)]
    assert all(torch.equal(scores[0][name], scores[1][name]) for name in scores[0])
    apart = {"seconds": 0, "noise_ratio": None, "bias": None}
    metrics = [[replace(m, **apart) for m in folder.metrics()] for folder in (plain, probed)]
    assert metrics[0] == metrics[1]


def test_what_is_measured_is_of_the_epoch_that_comes_next(data, tmp_path):
    config = replace(QUICK, probe=100, epochs=6, delta=0.7, eval_every=2)
    metrics = trained(config, data, tmp_path / "a").metrics()
    pruned = [m.num_kept < m.num_samples for m in metrics]
    assert pruned == [False, True, True, True, True, False]
    assert [m.effective_share is not None for m in metrics] == pruned
    assert all(0.5 < m.effective_share <= 1 for m in metrics if m.effective_share)
    # After epochs 2 and 4 of 6, but not after the last; the epochs that follow are the third and fifth.
    assert [m.noise_ratio is not None for m in metrics] == [False, True, False, True, False, False]
    again = trained(replace(config, eval_every=1), data, tmp_path / "b").metrics()
    assert again[3].noise_ratio == metrics[3].noise_ratio
    assert again[5].noise_ratio is again[4].noise_ratio is None  # the sixth epoch trains on all
    random = trained(replace(config, policy="random"), data, tmp_path / "c").metrics()
    assert random[1].noise_ratio == pytest.approx(1)


def test_a_summary_tells_how_often_samples_and_classes_were_trained(data, tmp_path):
    folder = trained(replace(QUICK, policy="ucb"), data, tmp_path / "a")
    summary = folder.summary()
    visits = folder.scores()["visits"].double()
    assert summary.visits == pytest.approx(visits.quantile(torch.tensor([0.05, 0.5, 0.95]).double()))
    labels = data.split(0, 600).train_labels
    of_classes = [float(visits[labels == c].mean() / visits.mean()) for c in range(10)]
    assert summary.class_balance == pytest.approx([min(of_classes), max(of_classes)])
    assert summary.class_balance[0] < 1 < summary.class_balance[1]


def test_a_contest_tells_why_a_policy_wins_or_loses(call, tmp_path):
    options = ["--data", "digits", "--train-samples", 400, "--epochs", 5, "--delta", 1, "--save", 30]
    options += ["--device", "cpu", "--policies", "infobatch,random,ucb", "--seeds", 2, "--no-controls"]
    code, output, error = call("contest", *options, "--probe", 60, "--out", tmp_path)
    assert code == 0, error
    assert "how far the expected gradient is off" in " ".join(output.split())
    path = tmp_path / "mnist5k-small-cnn"
    assert (path / "report" / "noise.png").exists()
    results = read_comparison(path)
    infobatch, random, ucb = rows = noise_rows(results)
    assert [row.label.split()[0] for row in rows] == ["InfoBatch", "random,", "UCB,"]

    def courses(place):
        runs = results.pruned[place].runs
        return [[m.noise_ratio for m in runs[seed].metrics[:4]] for seed in (0, 1)]

    assert infobatch.ratio == pytest.approx(fmean(itertools.chain(*courses(0))))
    assert infobatch.late == pytest.approx(fmean(r for course in courses(0) for r in course[2:]))
    assert infobatch.highest == pytest.approx(max(map(fmean, zip(*courses(0), strict=True))))
    assert infobatch.to_paper is infobatch.late_to_paper is None
    pairs = [
        [ours / paper for ours, paper in zip(*both, strict=True)]
        for both in zip(courses(2), courses(0), strict=True)
    ]
    assert ucb.to_paper == pytest.approx(fmean(itertools.chain(*pairs)))
    assert ucb.late_to_paper == pytest.approx(fmean(r for pair in pairs for r in pair[2:]))
    assert random.ratio == random.highest == pytest.approx(1)
    assert infobatch.bias == random.bias == 0 < ucb.bias
    assert infobatch.effective_share < 0.99
    assert random.effective_share == pytest.approx(ucb.effective_share) == pytest.approx(1)
    visits = [run.summary.visits[0] for run in results.pruned[2].runs.values()]
    assert ucb.visits[0] == fmean(visits)

    folder = path / "report"
    for text in ((folder / "report.md").read_text(), (folder / "report.html").read_text()):
        for cells in noise_table(results)[1]:
            assert all(cell in text for cell in cells)
        assert NOISE_NOTE.split("'")[0] in text
    runs = json.loads((folder / "runs.json").read_text())["runs"]
    (first,) = (run for run in runs if "ucb" in run["arm"] and run["seed"] == 0)
    assert first["noise_ratio"] == [round(r, 4) for r in courses(2)[0]] + [None]
    assert first["bias"][-1] is None
    assert first["effective_share"] == [None, 1, 1, 1, 1]
    assert "class_balance" in first
    assert first["visits"] == pytest.approx(results.pruned[2].runs[0].summary.visits)


def test_without_a_probe_nothing_is_told(call, tmp_path):
    options = ["--data", "digits", "--train-samples", 400, "--epochs", 4, "--device", "cpu"]
    options += ["--seeds", 1, "--out", tmp_path / "c"]
    code, output, error = call("compare", *options)
    assert code == 0, error
    assert "gradients of single samples" not in " ".join(output.split())
    assert not (tmp_path / "c" / "report" / "noise.png").exists()
    # What is measured is not what is trained: a run is no other for it.
    config = RunFolder(tmp_path / "c" / "full" / "seed-0").config()
    RunFolder(tmp_path / "c" / "full" / "seed-0").require(replace(config, probe=10))


def test_selective_backprop_tells_no_noise_and_no_visits(data, tmp_path):
    """Its steps are those of the samples it chooses within a batch."""
    config = replace(QUICK, policy="none", target=None, backward_share=0.5, probe=50)
    folder = RunFolder(tmp_path)
    folder.create(config)
    summary = train(config, data, folder)
    assert not any(metrics.noise_ratio for metrics in folder.metrics())
    assert (summary.visits, summary.class_balance) == ([], [])


def test_the_noise_is_told_while_a_run_trains(call, tmp_path):
    options = ["--data", "digits", "--train-samples", 400, "--epochs", 3, "--device", "cpu"]
    code, output, error = call("train", *options, "--probe", 50, "--out", tmp_path / "r")
    assert code == 0, error
    first, second, last = re.findall(r"epoch \d, .*", output)
    assert re.fullmatch(r"epoch 1, 100% kept, test accuracy [\d.]+ %, noise \d\.\d\d", first.strip())
    assert "noise" not in second
    assert "noise" not in last
    code, _, error = call("train", *options, "--probe", 1, "--out", tmp_path / "s")
    assert code == 2
    assert "--probe is 1; it must be 0, or at least 2" in error
