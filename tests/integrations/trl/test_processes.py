"""GRPO with pruning in two processes, over which groups may be split."""

import pytest
import torch

from helpers import launch

pytest.importorskip("trl")

from helpers.trl import NUM_GENERATIONS

pytestmark = pytest.mark.integrations

PROGRAM = """
    import gc
    import sys

    import torch
    import torch.distributed as dist
    from helpers.language import causal_model, parameters
    from helpers.trl import NOTHING, SMALLER, VARYING, StockGRPO, WatchedGRPO, trainer

    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

    def trained(name, *args, resume=None, **options):
        made = trainer(
            f"{folder}/{name}",
            *args,
            model=causal_model(),
            ddp_backend="gloo",
            # Six completions of each process: a group of four is split.
            per_device_train_batch_size=6,
            optim="adamw_torch",
            learning_rate=0.01,
            **options,
        )
        made.train(resume_from_checkpoint=resume)
        return made

    def main():
        stock = trained("stock", StockGRPO, num_train_epochs=1)
        ours = trained("ours", WatchedGRPO, NOTHING, num_train_epochs=1)
        ends = {"stock": parameters(stock.model), "ours": parameters(ours.model)}
        saving = {"save_strategy": "steps", "save_steps": 3, "num_iterations": 2}
        whole = trained("whole", WatchedGRPO, VARYING, **saving)
        again = trained(
            "whole", WatchedGRPO, VARYING, resume=f"{folder}/whole/checkpoint-15", num_iterations=2
        )
        ends.update(whole=parameters(whole.model), resumed=parameters(again.model))
        smaller = trained("smaller", WatchedGRPO, SMALLER, steps_per_generation=2)
        assert smaller.pruner.plan.shrink.multiple == 1
        assert smaller.pruner.report().saved > 0
        ends["smaller"] = parameters(smaller.model)
        state = whole.pruner.state_dict()["scores"]["columns"]
        counts = [list(epoch)[:3] for epoch in whole.pruner.report().epochs]
        selection = [whole.pruner.selection.indices, whole.pruner.selection.weights]
        torch.save([ends, whole.seen, whole.advantages, state, counts, selection], f"{folder}/{rank}.pt")

    try:
        main()
        gc.collect()  # models that outlive the process group can abort the process
        dist.barrier()
    finally:
        dist.destroy_process_group()
"""


def test_two_processes_select_one_set_of_prompts(tmp_path):
    (ends, seen, advantages, scores, counts, selection), others = launch(PROGRAM, 2, tmp_path)
    other_ends, other_seen, other_advantages, other_scores, other_counts, other_selection = others
    assert (ends["stock"] - ends["ours"]).abs().max() < 1e-6
    assert torch.equal(ends["whole"], ends["resumed"])
    assert all(torch.equal(ends[name], other_ends[name]) for name in ends)
    assert counts == other_counts
    assert counts[-1][1] < 24
    for mine, theirs in zip(selection, other_selection, strict=True):
        assert torch.equal(mine, theirs)
    for name in scores:
        assert torch.equal(scores[name].nan_to_num(-1), other_scores[name].nan_to_num(-1))

    # Each completion once: groups of the two halves together are whole, and count for one score.
    num_generations = [recorded // 3 for _, _, recorded in counts]
    rows = [mine + theirs for mine, theirs in zip(seen, other_seen, strict=True)]
    assert len(rows) == sum(num_generations)
    last = torch.tensor(rows[-num_generations[-1] :]).view(-1, NUM_GENERATIONS)
    assert (last == last[:, :1]).all()
    assert torch.equal(last[:, 0].sort().values, selection[0])
    weighted = [mine + theirs for mine, theirs in zip(advantages, other_advantages, strict=True)]
    groups = torch.tensor(weighted[-num_generations[-1] :]).view(-1, NUM_GENERATIONS)
    weights = selection[1][last[:, 0]]
    got = groups.square().mean(1).sqrt() / (weights / weights.mean())
    assert torch.allclose(got, scores["last_loss"][last[:, 0]], atol=1e-5)
