"""The Trainer with pruning in two processes."""

import numpy as np
import pytest
import torch

from helpers import launch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from helpers.language import causal_model, classifier, labelled_sentences, pad_labelled, parameters
from helpers.trainer import SMALLER, VARYING, trainer

pytestmark = pytest.mark.integrations

PROGRAM = """
    import gc
    import sys

    import torch
    import torch.distributed as dist
    from helpers.trainer import NOTHING, SMALLER, VARYING, Stock, Watched, trainer
    from helpers.language import (
        causal_model, classifier, labelled_sentences, pad_labelled, parameters, sentences
    )

    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

    def trained(name, *args, resume=None, **options):
        made = trainer(f"{folder}/{name}", *args, ddp_backend="gloo", num_train_epochs=4, **options)
        made.train(resume_from_checkpoint=resume)
        return made

    def main():
        ends = {}
        for kind, pruning in [(Stock, None), (Watched, NOTHING)]:
            made = trained(
                kind.__name__,
                kind,
                data=sentences(48),
                pruning=pruning,
                gradient_accumulation_steps=4,
                label_smoothing_factor=0.1,
            )
            ends[kind.__name__] = parameters(made.model)
        saving = {"save_strategy": "steps", "save_steps": 3}
        whole = trained("whole", pruning=VARYING, gradient_accumulation_steps=2, **saving)
        ends["whole"] = parameters(whole.model)
        assert whole.lr_scheduler.get_last_lr()[0] == 0
        resumed = trained(
            "whole",
            model=causal_model(),
            pruning=VARYING,
            gradient_accumulation_steps=2,
            resume=f"{folder}/whole/checkpoint-6",
        )
        ends["resumed"] = parameters(resumed.model)
        smaller = trained("smaller", pruning=SMALLER, gradient_accumulation_steps=2, **saving)
        assert smaller.state.global_step == smaller.state.max_steps == 4 * 4
        ends["smaller"] = parameters(smaller.model)
        again = trained(
            "smaller",
            model=causal_model(),
            pruning=SMALLER,
            gradient_accumulation_steps=2,
            resume=f"{folder}/smaller/checkpoint-6",
        )
        ends["smaller resumed"] = parameters(again.model)
        for is_counted in (False, True):
            model = classifier()
            model.accepts_loss_kwargs = is_counted
            made = trained(
                "classes",
                model=model,
                data=labelled_sentences(49),
                collate=pad_labelled,
                pruning=VARYING,
                average_tokens_across_devices=False,
            )
            ends[f"classes {is_counted}"] = parameters(made.model)
        scores = whole.pruner.state_dict()["scores"]["columns"]
        resumed_scores = resumed.pruner.state_dict()["scores"]["columns"]
        order = whole.pruner.current.order
        seen = [whole.seen, smaller.seen]
        torch.save([ends, seen, scores, resumed_scores, order], f"{folder}/{rank}.pt")

    try:
        main()
        gc.collect()  # models that outlive the process group can abort the process
        dist.barrier()
    finally:
        dist.destroy_process_group()
"""


def test_two_processes_train_one_selection(tmp_path):
    ranks = launch(PROGRAM, 2, tmp_path)
    (ends, seen, scores, resumed_scores, order), (others, other_seen, other_scores, _, _) = ranks
    (seen, smaller), (other_seen, other_smaller) = seen, other_seen

    assert (ends["Stock"] - ends["Watched"]).abs().max() < 1e-6
    assert (ends["whole"] - ends["resumed"]).abs().max() == 0
    assert (ends["smaller"] - ends["smaller resumed"]).abs().max() == 0
    for column in scores:
        expected = scores[column].nan_to_num(-1)
        assert torch.equal(expected, other_scores[column].nan_to_num(-1))
        assert torch.equal(expected, resumed_scores[column].nan_to_num(-1))
    assert all(torch.equal(ends[name], others[name]) for name in ends)

    # Smaller batches: as many as on full data on each rank, each sample once.
    assert [len(batch) for batch in smaller] == [len(batch) for batch in other_smaller]
    assert len(smaller) == 4 * 7
    for start in range(0, 28, 7):
        parts = smaller[start : start + 7] + other_smaller[start : start + 7]
        trained = [index for part in parts for index in part if index >= 0]
        assert len(set(trained)) == len(trained) > 0
        assert start or len(trained) == 50

    # One process with batches twice as large trains the same samples, step by step, to the same end.
    alone = trainer(
        tmp_path,
        pruning=VARYING,
        num_train_epochs=4,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        model=causal_model(),
    )
    alone.train()
    steps = [mine + theirs for mine, theirs in zip(seen, other_seen, strict=True)]
    assert [sorted(i for i in step if i >= 0) for step in steps] == [sorted(s) for s in alone.seen]
    num_steps = (len(order) + 7) // 8
    last = [index for step in steps[-num_steps:] for index in step if index >= 0]
    assert sorted(last) == sorted(order.tolist()), "no sample twice, none missing"
    assert (parameters(alone.model) - ends["whole"]).abs().max() < 1e-6
    assert np.isclose(alone.state.epoch, 4)

    alone = trainer(
        tmp_path,
        pruning=SMALLER,
        num_train_epochs=4,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        model=causal_model(),
    )
    alone.train()
    assert alone.state.global_step == 4 * 4

    # A last batch of one sample, where each process takes a mean of its own.
    alone = trainer(
        tmp_path,
        model=classifier(),
        data=labelled_sentences(49),
        collate=pad_labelled,
        pruning=VARYING,
        num_train_epochs=4,
        per_device_train_batch_size=8,
    )
    alone.train()
    assert (parameters(alone.model) - ends["classes False"]).abs().max() < 1e-6
    assert (parameters(alone.model) - ends["classes True"]).abs().max() < 1e-6
