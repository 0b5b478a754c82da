r"""GRPO on additions of growing length, with pruning and without, at equal numbers of completions.

    OMP_NUM_THREADS=1 python benchmarks/grpo.py --seeds 4 --out FOLDER                 # mostly hopeless
    OMP_NUM_THREADS=1 python benchmarks/grpo.py --seeds 1 --seed 2 --hopeless 0 --shrink steps \
        --noise 1.5 --epochs 12 --out FOLDER                                           # mostly in reach
    python benchmarks/grpo.py --report FILE [FILE ...]                                # the table of runs

A small causal model first sees additions with their answers for a moment, long ones rarely. TRL's
GRPOTrainer goes on from there, the reward 1 for a right answer. Prompts have numbers of one to six
digits; the --hopeless share have eight, which it never has right. All arms begin with one model; a seed
has prompts and completions of its own:

- full: all prompts in every epoch;
- pruned: a budget of noise, as many epochs, by the running mean of each prompt's spreads (--by);
- fewer epochs: all prompts, in as many completions as pruned had;
- random: as many prompts as pruned had, epoch by epoch, whatever their score.

Each arm is a line of FOLDER/runs.json: success on held-out prompts against completions and seconds, the
share of groups without spread, and the noise of its steps.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl
from scipy import stats
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback

from infobatch import NoiseBudget, NoPruning, RandomPruning
from infobatch.integrations.trl import PruningGRPOTrainer

LENGTHS = range(1, 7)
NUM_HELD_OUT = 384
NUM_GENERATIONS, NUM_IN_GENERATION = 8, 256
SYMBOLS = [*"0123456789+=", "<pad>", "<eos>"]
SMOOTHING = 0.15
ARMS = ("full", "pruned", "fewer epochs", "random")


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each character; the last two are for padding and for the end."""
    vocabulary = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def additions(number: int, seed: int, lengths: list[int]) -> list[dict[str, str]]:
    """Additions of two numbers, digit by digit: ``a+b`` of each place from the lowest, then the sum.

    All numbers have their lowest digit first.
    """
    draw, made = random.Random(seed), []
    for _ in range(number):
        length = draw.choice(lengths)
        low = 10 ** (length - 1) if length > 1 else 0
        first, second = (draw.randrange(low, 10**length) for _ in range(2))
        pairs = zip(str(first)[::-1], str(second)[::-1], strict=True)
        prompt = "+".join(a + b for a, b in pairs) + "="
        made.append({"prompt": prompt, "answer": str(first + second)[::-1]})
    return made


def new_model(width: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(SYMBOLS),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=SYMBOLS.index("<pad>"),
        eos_token_id=SYMBOLS.index("<eos>"),
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def taught(width: int, num_steps: int, lr: float) -> dict[str, torch.Tensor]:
    """The weights of a model that has seen additions with their answers, long ones rarely."""
    transformers.set_seed(0)
    model, read = new_model(width), tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, num_steps)
    lengths = [length for length in LENGTHS for _ in range(round(10 * 1.7 ** (max(LENGTHS) - length)))]
    for step in range(num_steps):
        rows = additions(128, 10**6 + step, lengths)
        texts = [row["prompt"] + row["answer"] + "<eos>" for row in rows]
        batch = read(texts, padding=True, return_tensors="pt", padding_side="right")
        prompts = [len(row["prompt"]) for row in rows]
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, length in enumerate(prompts):
            labels[row, :length] = -100
        logits = model(**batch).logits[:, :-1].flatten(0, 1)
        # Smoothed, so that it is not sure of what it knows, as a large model at temperature 1 is not.
        loss = cross_entropy(logits, labels[:, 1:].flatten(), label_smoothing=SMOOTHING)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.state_dict()


@torch.no_grad()
def success(model: Any, rows: list[dict[str, str]]) -> list[float]:
    """The share of right answers for each length, drawn as in training."""
    read, device = tokenizer(), model.device
    batch = read([row["prompt"] for row in rows], padding=True, return_tensors="pt").to(device)
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    was_training = model.training
    model.eval()
    drawn = model.generate(
        **{name: batch[name] for name in ("input_ids", "attention_mask")},
        max_new_tokens=max(LENGTHS) + 2,
        do_sample=True,
        top_k=0,
    )
    model.train(was_training)
    torch.set_rng_state(generator_state)
    texts = read.batch_decode(drawn[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    right = [float(text == row["answer"]) for text, row in zip(texts, rows, strict=True)]
    by_length: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for row, value in zip(rows, right, strict=True):
        by_length[row["prompt"].count("+") + 1].append(value)
    return [statistics.mean(by_length[length]) for length in LENGTHS]


class Reward:
    """1 for the right answer, else 0; it counts the completions."""

    __name__ = "reward"

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, completions: list[str], answer: list[str], **others: Any) -> list[float]:
        self.number += len(completions)
        return [float(text == right) for text, right in zip(completions, answer, strict=True)]


class Curve(TrainerCallback):
    """Success on held-out prompts as a run goes on, off its clock."""

    def __init__(self, rows: list[dict[str, str]], every: int, reward: Reward) -> None:
        self.rows, self.every, self.reward = rows, every, reward
        self.points: list[dict[str, Any]] = []
        self.zero: list[float] = []
        self.off = 0.0
        self.begun = 0.0

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        self.begun = time.perf_counter()
        self._note(model, 0)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        if state.global_step % self.every == 0:
            self._note(model, state.global_step)

    def on_train_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        if state.global_step % self.every:
            self._note(model, state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        if "frac_reward_zero_std" in (logs or {}) and "train_runtime" not in logs:
            self.zero.append(round(float(logs["frac_reward_zero_std"]), 3))

    def _note(self, model: Any, step: int) -> None:
        start = time.perf_counter()
        shares = success(model, self.rows)
        self.points.append(
            {
                "completions": self.reward.number,
                "seconds": round(start - self.begun - self.off, 2),
                "success": round(statistics.mean(shares), 4),
                "by_length": [round(share, 3) for share in shares],
            }
        )
        self.off += time.perf_counter() - start


def run(
    seed: int, weights: dict[str, torch.Tensor], options: argparse.Namespace, epochs: float, pruning: Any
) -> tuple[dict[str, Any], Any]:
    """One arm; what is known of it, and its pruner."""
    transformers.set_seed(seed)
    model = new_model(options.width)
    model.load_state_dict(weights)
    num_hopeless = round(options.hopeless * options.prompts)
    train = additions(options.prompts - num_hopeless, 100 + seed, list(LENGTHS))
    train += additions(num_hopeless, 200 + seed, [max(LENGTHS) + 2])
    held_out = additions(NUM_HELD_OUT, 10**5, list(LENGTHS))
    with tempfile.TemporaryDirectory() as folder:
        args = trl.GRPOConfig(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=NUM_IN_GENERATION,
            num_generations=NUM_GENERATIONS,
            max_completion_length=max(LENGTHS) + 2,
            learning_rate=options.lr,
            lr_scheduler_type="linear",
            seed=seed,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="steps",
            logging_steps=6,
            warmup_steps=6,
            save_strategy="no",
            dataloader_pin_memory=False,
        )
        reward = Reward()
        curve = Curve(held_out, 12, reward)
        trainer = PruningGRPOTrainer(
            model,
            reward,
            args,
            datasets.Dataset.from_list(train),
            processing_class=tokenizer(),
            callbacks=[curve],
            pruning=pruning,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    pruner = trainer.pruner
    report = pruner.report()
    return {
        "points": curve.points,
        "zero_spread": curve.zero,
        "noise": [None if e.noise is None else round(e.noise, 3) for e in report.epochs],
        "kept": [e.num_selected for e in report.epochs],
        "saved": round(report.saved, 4),
    }, pruner


def arms(seed: int, options: argparse.Namespace) -> None:
    """All arms of a seed, each a line of the file as soon as it ends."""
    path = options.out / f"taught-{options.width}-{options.taught}-{options.taught_lr}.pt"
    if not path.exists():
        torch.save(taught(options.width, options.taught, options.taught_lr), path)
    weights = torch.load(path)
    nothing = {"policy": NoPruning()}
    budget = {"policy": NoiseBudget(max_noise=options.noise, by=options.by), "shrink": options.shrink}
    kept: list[int] = []
    for arm in options.arms:
        epochs, pruning = float(options.epochs), nothing
        if arm == "pruned":
            pruning = budget
        elif arm == "fewer epochs":
            epochs = sum(kept) / options.prompts
        elif arm == "random":
            left_out = [options.prompts - number for number in kept]
            pruning = {"policy": RandomPruning(), "target": left_out, "shrink": options.shrink}
            pruning["delta"] = 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            found, _ = run(seed, weights, options, epochs, pruning)
        if arm == "pruned":
            kept = found["kept"]
        note(
            options,
            {
                "arm": arm,
                "seed": seed,
                "lr": options.lr,
                "by": options.by,
                "width": options.width,
                "prompts": options.prompts,
                "hopeless": options.hopeless,
                "shrink": options.shrink,
                "epochs": epochs,
                **found,
            },
        )


def note(options: argparse.Namespace, line: dict[str, Any]) -> None:
    """Add a line to the file, and say what it ends with."""
    with (options.out / "runs.json").open("a") as file:
        file.write(json.dumps(line) + "\n")
    last = line["points"][-1]
    print(
        f"seed {line['seed']}  {line['arm']:12}  {last['completions']:7,} completions  "
        f"{last['seconds']:6.1f} s  success {line['points'][0]['success']:.3f} -> {last['success']:.3f}",
        last["by_length"],
        line["zero_spread"][::4],
        flush=True,
    )


def report(paths: list[Path]) -> None:
    """Print each arm's means, and how its success differs from pruned, with p of a paired t test.

    Args:
        paths: Files of runs, of which one has pruned; where two have the same run the later one counts.
    """
    runs: dict[str, dict[int, dict[str, Any]]] = {}
    for line in (json.loads(line) for path in paths for line in path.read_text().splitlines()):
        runs.setdefault(line["arm"], {})[line["seed"]] = line
    for arm, by_seed in runs.items():
        lines = list(by_seed.values())
        completions, seconds, success = (
            statistics.fmean(line["points"][-1][name] for line in lines)
            for name in ("completions", "seconds", "success")
        )
        noises = [noise for line in lines for noise in line["noise"] if noise is not None]
        first = statistics.fmean(line["zero_spread"][0] for line in lines)
        last = statistics.fmean(statistics.fmean(line["zero_spread"][-3:]) for line in lines)
        print(
            f"{arm:12}  {len(by_seed):2} seeds  {completions:8,.0f} completions  {seconds:6.1f} s  "
            f"without spread {first:.2f} -> {last:.2f}  "
            f"{_noise_of(noises)}success {success:.3f}{_against_pruned(arm, runs)}"
        )


def _noise_of(noises: list[float]) -> str:
    """The mean and the highest noise of epochs; nothing where none was pruned."""
    return f"noise {statistics.fmean(noises):.2f}, at most {max(noises):.2f}  " if noises else ""


def _against_pruned(arm: str, runs: dict[str, dict[int, dict[str, Any]]]) -> str:
    """How an arm's success differs from that of pruned, over the seeds that both have."""
    seeds = sorted(runs[arm].keys() & runs["pruned"])
    if arm == "pruned" or len(seeds) < 2:
        return ""
    ours, theirs = (
        [runs[each][seed]["points"][-1]["success"] for seed in seeds] for each in ("pruned", arm)
    )
    test = stats.ttest_rel(theirs, ours)
    low, high = test.confidence_interval()
    return f"  {(low + high) / 2:+.3f} ({low:+.3f} to {high:+.3f})  p {test.pvalue:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from --seed on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--shrink", choices=["steps", "batches"], default="batches")
    parser.add_argument(
        "--hopeless", type=float, default=0.6, help="the share of prompts that are too long"
    )
    parser.add_argument("--noise", type=float, default=1.2)
    parser.add_argument("--by", choices=["gradient_norm", "smoothed_norm"], default="smoothed_norm")
    parser.add_argument("--prompts", type=int, default=384)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--taught", type=int, default=900, help="steps with answers, before")
    parser.add_argument("--taught-lr", type=float, default=3e-3, help="the peak rate of these steps")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path)
    where.add_argument("--report", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.report:
        report(options.report)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    transformers.logging.set_verbosity_error()
    for seed in range(options.seed, options.seed + options.seeds):
        arms(seed, options)


if __name__ == "__main__":
    main()
