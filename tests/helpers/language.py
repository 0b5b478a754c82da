"""Tiny language data and models, and what the frameworks' tests compare runs by."""

import numpy as np
import torch
from torch.utils.data import Sampler

from infobatch import sequence_losses
from infobatch.layouts.shuffled_epoch import epoch_order
from infobatch.selection import Selection

VOCABULARY = 29
SHAPE = {
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 16,
}


def sentences(size=50, seed=3, masked=False):
    """Sequences of 3 to 9 tokens; every eleventh has nothing to learn."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(size):
        length = int(torch.randint(3, 10, (), generator=generator))
        tokens = torch.randint(1, VOCABULARY, (length,), generator=generator)
        labels = tokens.clone()
        if masked:
            labels[torch.rand(length, generator=generator) < 0.5] = -100
        if index % 11 == 5:
            labels[:] = -100
        made.append({"input_ids": tokens, "labels": labels})
    return made


def pad(samples):
    """A batch of sequences, as long as the longest."""
    length = max(len(sample["input_ids"]) for sample in samples)

    def padded(name, fill):
        rows = [sample[name] for sample in samples]
        return torch.stack([torch.nn.functional.pad(r, (0, length - len(r)), value=fill) for r in rows])

    tokens = padded("input_ids", 0)
    return {
        "input_ids": tokens,
        "attention_mask": (tokens > 0).long(),
        "labels": padded("labels", -100),
    }


def causal_model(dropout=0.0):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(
        n_layer=2,
        n_embd=16,
        n_head=2,
        n_positions=16,
        vocab_size=VOCABULARY,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config)


def mixture_of_experts(kind="Mixtral"):
    """A model whose router has a loss of its own."""
    import transformers

    of_kind = {
        "Mixtral": {"num_experts_per_tok": 1, "router_aux_loss_coef": 0.5},
        "JetMoe": {"kv_channels": 8, "num_experts_per_tok": 2, "aux_loss_coef": 0.5},
    }[kind]
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        output_router_logits=True,
        max_position_embeddings=16,
        **of_kind,
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_(5 if "gate.weight" in name else 1)  # equally busy experts have no gradient
    return model


def masked_model():
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    torch.manual_seed(1)
    config = ModernBertConfig(
        **SHAPE,
        pad_token_id=0,
        reference_compile=False,
    )
    return ModernBertForMaskedLM(config)


def old_masked_model():
    """One whose own loss is a batch's mean, whatever is accumulated."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(1)
    config = BertConfig(
        **SHAPE,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForMaskedLM(config)


def reversals(size=50):
    """Sequences whose labels are their tokens from the last to the first."""
    return [{**sample, "labels": sample["labels"].flip(0)} for sample in sentences(size)]


def encoder_decoder(kind="Bart"):
    """A model that makes its decoder's inputs of the labels."""
    import transformers

    sizes = {
        "Bart": {"d_model": 16, "max_position_embeddings": 16, "forced_eos_token_id": None},
        "T5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1},
    }[kind]
    if kind == "Bart":
        for part in ("encoder", "decoder"):
            sizes |= {f"{part}_layers": 1, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 32}
    torch.manual_seed(1)
    tokens = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1}
    config = getattr(transformers, f"{kind}Config")(
        **sizes, **tokens, decoder_start_token_id=0, dropout=0.0, dropout_rate=0.0
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config)


def classifier():
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(1)
    config = LlamaConfig(
        **SHAPE,
        pad_token_id=0,
        num_labels=3,
    )
    return LlamaForSequenceClassification(config)


def labelled_sentences(size=50):
    made = sentences(size)
    for index, sample in enumerate(made):
        sample["labels"] = torch.tensor(index * 7 % 3)
    return made


def pad_labelled(samples):
    batch = pad([{**sample, "labels": sample["input_ids"]} for sample in samples])
    batch["labels"] = torch.stack([sample["labels"] for sample in samples])
    return batch


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class FullOrder(Sampler):
    """The order of an unpruned epoch, for the stock framework."""

    def __init__(self, size, seed):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.size

    def __iter__(self):
        return iter(epoch_order(self.seed, self.epoch, Selection.full(self.size)).tolist())


def train_plainly(pruner, model, num_accumulated=1, label_smoothing=0.0, lr=0.1, batch_size=4):
    """What the Trainer should do, as a loop; the learning rates and the batches' samples."""
    loader = pruner.loader(batch_size, collate_fn=pad)
    update_size = batch_size * num_accumulated
    total = -(-pruner.num_samples // update_size) * pruner.num_epochs
    optimizer = torch.optim.SGD(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    schedule = pruner.lr_scheduler(schedule, total)
    rates, seen, sums = [], [], torch.zeros(2)
    for _ in pruner.epochs():
        before, sums = sums, torch.zeros(2)
        is_pruned = pruner.selection.num_selected < pruner.num_samples
        batches = list(loader)
        for start in range(0, len(batches), num_accumulated):
            group = batches[start : start + num_accumulated]
            indices = np.concatenate([of_batch for of_batch, _ in group])
            counts = torch.cat([batch["labels"].ne(-100).sum(1) for _, batch in group]).float()
            weights = pruner.weights(indices)
            weights = weights if pruner.plan.shrink else weights / pruner.weight_divisor
            sums += torch.stack([counts @ weights, weights.sum()])
            expected = before[0] / before[1] * len(indices) if before.any() else counts @ weights
            items = expected if is_pruned else counts.sum()
            for indices, batch in group:
                labels = batch.pop("labels")
                logits = model(**batch).logits
                losses = sequence_losses(logits, labels, label_smoothing=label_smoothing, shift=True)
                counts = labels[:, 1:].ne(-100).sum(1)
                pruner.record(losses, indices, scored=counts > 0)
                ((losses * counts) @ pruner.weights(indices) / items).backward()
                seen.append(indices.tolist())
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return rates, seen, optimizer.param_groups[0]["lr"]
