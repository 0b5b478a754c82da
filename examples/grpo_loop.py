"""GRPO in a loop of one's own: prompts whose completions all earn the same are asked less often.

A small network has seen additions with their answers for a moment. It goes on by reinforcement, with
eight completions of each prompt and the reward 1 for a right one. Half of the prompts have an answer
that it cannot give, as where prompts are too hard for a model, and teach it nothing.
"""

import torch
from torch import nn

from infobatch import DynamicPruner, NoiseBudget, NoPruning

LENGTHS, SYMBOLS = 5, 11  # digits of a number; the last symbol stands for none
NUM_PROMPTS, BATCH_SIZE, NUM_COMPLETIONS, EPOCHS = 1024, 32, 8, 12


def additions(size, seed):
    """Pairs of numbers with equally many digits, the lowest first, (n, 2 * 5), and sums (n, 6)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, LENGTHS + 1, (size, 1), generator=generator)
    digits = torch.randint(0, 10, (2, size, LENGTHS), generator=generator)
    places = torch.arange(LENGTHS + 1)
    values = (digits * 10 ** places[:-1]).masked_fill(places[:-1] >= lengths, 0).sum((0, 2))
    sums = (values[:, None] // 10**places % 10).masked_fill(places > lengths, SYMBOLS - 1)
    prompts = digits.masked_fill(places[:-1] >= lengths, SYMBOLS - 1)
    return torch.cat(list(prompts), 1), sums


def encoded(prompts):
    return nn.functional.one_hot(prompts, SYMBOLS).flatten(1).float()


def make_model(seed=0, num_steps=500):
    """A network that answers all places of a sum at once, taught for a moment."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(2 * LENGTHS * SYMBOLS, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, (LENGTHS + 1) * SYMBOLS),
        nn.Unflatten(1, (LENGTHS + 1, SYMBOLS)),
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(num_steps):
        prompts, sums = additions(256, 10**6 * (seed + 1) + step)
        logits = model(encoded(prompts)).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, sums.flatten(), label_smoothing=0.3)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@torch.no_grad()
def success(model, size=4096):
    """The probability of a right answer, on prompts that are not trained."""
    prompts, sums = additions(size, 5)
    log_probs = model(encoded(prompts)).log_softmax(-1)
    return log_probs.gather(2, sums[..., None]).sum((1, 2)).exp().mean().item()


def train(model, policy, lr=5e-4, seed=0):
    prompts, sums = additions(NUM_PROMPTS, 100 + seed)
    sums[: NUM_PROMPTS // 2] = -1  # what no answer is
    dataset = torch.utils.data.TensorDataset(prompts, sums)
    pruner = DynamicPruner(dataset, EPOCHS, policy=policy, seed=seed)
    loader = pruner.loader(BATCH_SIZE, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    torch.manual_seed(seed)
    for _ in pruner.epochs():
        for indices, (asked, right) in loader:
            drawn = torch.distributions.Categorical(logits=model(encoded(asked)))
            completions = drawn.sample((NUM_COMPLETIONS,))
            rewards = (completions == right).all(-1).float()
            advantages = rewards - rewards.mean(0)
            spread = advantages.square().mean(0).sqrt()
            pruner.record(spread, indices, gradient_norms=spread)
            weighted = advantages * pruner.weights(indices)
            loss = -(weighted * drawn.log_prob(completions).sum(-1)).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return pruner


def main():
    print(f"success after a moment of teaching: {success(make_model()):.3f}")
    for policy in (NoPruning(), NoiseBudget(max_noise=1.2, by="smoothed_norm")):
        model = make_model()
        pruner = train(model, policy)
        number = pruner.report().num_recorded * NUM_COMPLETIONS
        print(f"{type(policy).__name__}: success {success(model):.3f} after {number:,} completions")
    print(pruner.report())
    return pruner, model


if __name__ == "__main__":
    main()
