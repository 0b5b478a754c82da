"""What is used of the installed transformers, whose Trainer must let epochs vary in length."""

from __future__ import annotations

try:
    import transformers
    from transformers import Trainer
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, seed_worker
    from transformers.utils import is_datasets_available
except ImportError as error:
    raise ImportError(
        "infobatch.integrations.transformers needs transformers and accelerate: "
        "pip install 'infobatch[transformers]'"
    ) from error

__all__ = [
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "PREFIX_CHECKPOINT_DIR",
    "Trainer",
    "check_version",
    "is_datasets_available",
    "seed_worker",
]


def check_version(trainer_class: type, version: str) -> None:
    """Refuse versions whose Trainer takes every epoch to be as long as the first."""
    missing = [
        name for name in ("_run_epoch", "_init_training_state") if not hasattr(trainer_class, name)
    ]
    if missing:
        raise ImportError(
            f"transformers is {version}, whose Trainer has no {missing[0]}, and without it epochs of "
            "varying length are cut short; install 5.4 or later: "
            "pip install -U 'infobatch[transformers]'"
        )


check_version(Trainer, transformers.__version__)
