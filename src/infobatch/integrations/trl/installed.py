"""What is used of the installed TRL."""

from __future__ import annotations

try:
    import trl
    from trl import GRPOTrainer, RLOOTrainer
except ImportError as error:
    raise ImportError("infobatch.integrations.trl needs trl: pip install 'infobatch[trl]'") from error

__all__ = ["GRPOTrainer", "RLOOTrainer", "check_version"]


def check_version(trainer_class: type, version: str) -> None:
    """Refuse versions whose trainers generate and score in other steps."""
    needed = ("_calculate_rewards", "_generate_and_score_completions")
    missing = [name for name in needed if not hasattr(trainer_class, name)]
    if missing:
        raise ImportError(
            f"trl is {version}, whose GRPOTrainer has no {missing[0]}, which pruning goes by; install "
            "another: pip install -U 'infobatch[trl]'"
        )


check_version(GRPOTrainer, trl.__version__)
