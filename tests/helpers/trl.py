"""TRL's trainers on a tiny model, with pruning and without, and what they trained."""

import datasets
import trl
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerFast

from helpers.language import VOCABULARY, FullOrder, causal_model
from helpers.trainer import Notes
from infobatch import NoiseBudget, NoPruning
from infobatch.integrations.transformers import INDICES
from infobatch.integrations.trl import PruningGRPOTrainer, PruningRLOOTrainer

WORDS = ["<pad>", "<eos>", *(f"w{i}" for i in range(VOCABULARY - 2))]
NOTHING = {"policy": NoPruning()}
VARYING = {"policy": NoiseBudget(1.5), "shrink": "steps"}
SMALLER = {"policy": NoiseBudget(2.0), "shrink": "batches"}
NUM_GENERATIONS = 4


def tokenizer():
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


def prompts(size=24):
    """Prompts of which two in three have one reward, whatever is answered."""
    names = [f"w{2 + i % 20} w{3 + i % 17}" for i in range(size)]
    kinds = [("varied", "easy", "hopeless")[i % 3] for i in range(size)]
    return datasets.Dataset.from_dict({"prompt": names, "kind": kinds})


def reward(completions, kind, **others):
    """How many words of an answer are even, on prompts where that counts; 1 or 0 on others."""
    assert INDICES not in others
    counted = [sum(int(word[1:]) % 2 == 0 for word in text.split()) / 4 for text in completions]
    fixed = {"easy": 1.0, "hopeless": 0.0}
    return [fixed.get(of, count) for of, count in zip(kind, counted, strict=True)]


class _Watched:
    """Notes what is trained of each generation, and the progress at each batch."""

    def _generate_and_score_completions(self, inputs):
        outputs = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self.__dict__.setdefault("seen", []).append([row.get(INDICES) for row in inputs])
            self.__dict__.setdefault("advantages", []).append(outputs["advantages"].tolist())
        return outputs


class WatchedGRPO(_Watched, PruningGRPOTrainer):
    pass


class WatchedRLOO(_Watched, PruningRLOOTrainer):
    pass


class Reordered(Sampler):
    """TRL's sampler, with the order of an unpruned epoch."""

    def __init__(self, stock, order):
        self.stock, self.order = stock, order
        self.set_epoch = order.set_epoch

    def __len__(self):
        return len(self.stock)

    def __iter__(self):
        self.stock.shuffle = False
        order = list(self.order)
        return (order[place] for place in self.stock)


class _Stock(_Watched):
    """Of TRL, with the order of the pruner's epochs."""

    def _get_train_sampler(self, dataset=None):
        order = FullOrder(len(self.train_dataset), self.args.seed)
        stock = super()._get_train_sampler(dataset)
        return Reordered(stock, order)


class StockGRPO(_Stock, trl.GRPOTrainer):
    pass


class StockRLOO(_Stock, trl.RLOOTrainer):
    pass


def config(folder, kind=trl.GRPOConfig, **arguments):
    arguments = {
        "per_device_train_batch_size": 16,
        "num_generations": NUM_GENERATIONS,
        "max_completion_length": 4,
        "num_train_epochs": 3,
        "learning_rate": 0.1,
        "optim": "sgd",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        **arguments,
    }
    return kind(output_dir=str(folder), **arguments)


def trainer(folder, kind=WatchedGRPO, pruning=None, model=None, data=None, rewards=reward, **arguments):
    config_class = trl.RLOOConfig if issubclass(kind, trl.RLOOTrainer) else trl.GRPOConfig
    made = kind(
        model=causal_model() if model is None else model,
        reward_funcs=rewards,
        args=config(folder, config_class, **arguments),
        train_dataset=prompts() if data is None else data,
        eval_dataset=prompts(8),
        processing_class=tokenizer(),
        callbacks=[notes := Notes()],
        **{} if pruning is None else {"pruning": pruning},
    )
    made.notes = notes
    return made
