"""Causal language models and their tokenizers: small new ones, and those in a local folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from infobatch.lab.models.packages import import_for
from infobatch.lab.names import choose

if TYPE_CHECKING:
    from infobatch.lab.config.task_options import TuningOptions

CONTEXT = 2048
"""The most tokens that a new model takes."""
END_OF_TEXT = "<|endoftext|>"


def _llama(width: int, num_layers: int, num_heads: int) -> Callable[[Any, int], Any]:
    """LLaMA's layers, 8/3 as wide within (Touvron et al., 2023)."""

    def config(transformers: Any, vocabulary: int) -> Any:
        return transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=8 * width // 3,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
        )

    return config


def _gpt2(width: int, num_layers: int, num_heads: int) -> Callable[[Any, int], Any]:
    """GPT-2's layers, without dropout (Radford et al., 2019)."""

    def config(transformers: Any, vocabulary: int) -> Any:
        return transformers.GPT2Config(
            vocab_size=vocabulary,
            n_embd=width,
            n_layer=num_layers,
            n_head=num_heads,
            n_positions=CONTEXT,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )

    return config


SHAPES = {
    "llama-tiny": (_llama(64, 3, 4), 2048),
    "llama-small": (_llama(512, 8, 8), 4096),
    "gpt2-tiny": (_gpt2(64, 3, 4), 2048),
}
"""New models by name: what makes the configuration, and the size of the vocabulary."""


def check_language_model(name: str) -> None:
    """Refuse a model that cannot be made.

    Args:
        name: One of :data:`SHAPES`, or the folder of a model with its tokenizer.

    Raises:
        ValueError: If there is no such model.
        FileNotFoundError: If the folder has no tokenizer.
    """
    if not name:
        raise ValueError("no model is named; give --model, the folder of one with its tokenizer")
    if not _is_folder(name):
        choose("model", name, SHAPES)
    elif not (Path(name) / "tokenizer_config.json").exists():
        raise FileNotFoundError(
            f"--model is {name}, which holds a model without its tokenizer (no tokenizer_config.json); "
            "save both there: tokenizer.save_pretrained(...)"
        )


def _is_folder(name: str) -> bool:
    return bool(name) and (Path(name) / "config.json").exists()


def context_of(name: str) -> int | None:
    """The most tokens that the named model takes; None where its configuration does not say."""
    if not _is_folder(name):
        return CONTEXT
    config = _transformers().AutoConfig.from_pretrained(name, local_files_only=True)
    return getattr(config, "max_position_embeddings", None)


def make_tokenizer(name: str, texts: Iterable[str]) -> Any:
    """The tokenizer in a model's folder; for a new model, one that is trained.

    Args:
        name: See :func:`check_language_model`.
        texts: What a new tokenizer is trained on; it is the same for the same texts.

    Returns:
        A tokenizer of transformers'; a new one merges byte pairs of UTF-8.

    Raises:
        ValueError: If the folder's tokenizer has no end-of-text token.

    Source: Sennrich et al., 2016; Radford et al., 2019.
    """
    transformers = _transformers()
    if _is_folder(name):
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=True)
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"the tokenizer in {name} has no end-of-text token, with which an answer ends; set its "
                "eos_token and save it again"
            )
        return tokenizer
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPES[name][1],
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=pairs, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def make_language_model(name: str, tokenizer: Any, options: TuningOptions, precision: str) -> Any:
    """Make a new model, or load the one in a folder, and add adapters where options ask for them.

    Args:
        name: See :func:`check_language_model`. A new model's weights are drawn from PyTorch's global
            generator.
        tokenizer: The model's tokenizer.
        options: The rank and scale of the adapters.
        precision: ``"bf16"`` keeps weights that adapters leave as they are in bfloat16.

    Returns:
        A causal language model of transformers', its trained weights in float32.
    """
    transformers = _transformers()
    if _is_folder(name):
        frozen = options.lora_rank > 0 and precision == "bf16"
        model = transformers.AutoModelForCausalLM.from_pretrained(
            name, local_files_only=True, dtype=torch.bfloat16 if frozen else torch.float32
        )
    else:
        make_config, vocabulary = SHAPES[name]
        config = make_config(transformers, vocabulary)
        config.bos_token_id = config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
        model = transformers.AutoModelForCausalLM.from_config(config)
    return with_adapters(model, options.lora_rank, options.lora_alpha) if options.lora_rank else model


def with_adapters(model: Any, rank: int, alpha: int) -> Any:
    """Add LoRA adapters of a ``rank`` to every linear layer except the output (Hu et al., 2022)."""
    peft = import_for(f"--tuning.lora-rank {rank}", "peft")
    from transformers.pytorch_utils import Conv1D

    if not any(isinstance(module, (torch.nn.Linear, Conv1D)) for module in model.modules()):
        raise ValueError(
            f"--tuning.lora-rank is {rank}, but {type(model).__name__} has no linear layers to put "
            "adapters beside; leave it out, or take another --model"
        )
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules="all-linear",
            fan_in_fan_out=transposed,
            task_type="CAUSAL_LM",
        ),
    )


def _transformers() -> Any:
    return import_for("--task tuning", "transformers")
