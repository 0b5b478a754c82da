"""What pruning saves in a run, and the noise that it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

from infobatch.noise import HOW_TO_GIVE_NORMS

__all__ = ["EpochCounts", "Report"]


class EpochCounts(NamedTuple):
    """One epoch in numbers of samples.

    Args:
        epoch: Number of the epoch, from 0.
        num_selected: Samples that it trains, on all ranks.
        num_recorded: Samples whose losses were recorded, on all ranks.
        num_full: Samples that it would train if nothing were pruned: without a last batch that is
            dropped, and of a last epoch that is cut short only its part.
        noise: The second moment of a step relative to one on full data in as many steps, by the norms of
            gradients when samples were trained: see :func:`infobatch.noise.noise_of`. None if it is not
            known: for epochs that are not pruned, for biased policies, on several ranks for the one
            under way, and where losses do not tell norms, for they are negative, or look like errors and
            are taken for cross-entropies.
        share: Share of all samples that it selected, of which a last epoch may train only a part.
    """

    epoch: int
    num_selected: int
    num_recorded: int
    num_full: int
    noise: float | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Report:
    """What a run has trained and left out so far; print it.

    Args:
        epochs: The epochs begun so far.
        num_nonfinite: Losses and signals that were NaN or infinite, on this rank alone. A resumed run
            goes on from the number in the state that it loads.
        max_noise: The budget of noise that the policy kept to; None if it has none.
        batch_size: Samples in a batch of full data, on all ranks; None if it is not known.
        shrinks_batches: Whether pruned epochs have smaller batches, and not fewer of them.
        num_replicas: Ranks that train one model.
        made_of: What the losses look like, where norms do not follow from them as a run says.
    """

    epochs: Sequence[EpochCounts]
    num_nonfinite: int
    max_noise: float | None = None
    batch_size: float | None = None
    shrinks_batches: bool = False
    num_replicas: int = 1
    made_of: str | None = None

    @property
    def num_recorded(self) -> int:
        """Samples trained on, repeats counted each time."""
        return sum(counts.num_recorded for counts in self.epochs)

    @property
    def saved(self) -> float:
        """The share left out of what the epochs listed would train if nothing were pruned, or 0."""
        selected = sum(counts.num_selected for counts in self.epochs)
        return 1 - selected / self.num_full if self.num_full else 0.0

    @property
    def num_full(self) -> int:
        """Samples that the epochs listed would train if nothing were pruned."""
        return sum(counts.num_full for counts in self.epochs)

    @property
    def num_unreached(self) -> int:
        """Samples that were selected but not trained on, in epochs under way or broken off."""
        return sum(counts.num_selected - counts.num_recorded for counts in self.epochs)

    @property
    def noises(self) -> list[float]:
        """The noise of each pruned epoch, where it is known."""
        return [counts.noise for counts in self.epochs if counts.noise is not None]

    @property
    def noise(self) -> float | None:
        """Their mean; None without such an epoch."""
        return mean(self.noises) if self.noises else None

    @property
    def noise_of_a_step(self) -> float | None:
        """Mean noise of a step of pruned epochs, relative to a step on full data.

        Where batches shrink it is :attr:`noise`. Where epochs have fewer steps, with batches as large as
        on full data, each is less noisy by the share of samples that the epoch trains.
        """
        if self.shrinks_batches:
            return self.noise
        shares = [each.share * each.noise for each in self.epochs if each.noise is not None]
        return mean(shares) if shares else None

    def _noise_line(self) -> str:
        noise, of_a_step = self.noise, self.noise_of_a_step
        assert noise is not None
        assert of_a_step is not None
        asked = "" if self.max_noise is None else f", where a mean of {self.max_noise:g} was asked for"
        line = f"noise {noise:.2f} in pruned epochs, at most {max(self.noises):.2f}{asked}"
        if self.batch_size is None:
            return line
        size, like = self.batch_size, round(self.batch_size / of_a_step)
        which = f"as noisy as one of batch {like:,} of {size:,.0f}"
        if like >= size:
            which = "no noisier than one on full data"
        steps = ": a step" if self.shrinks_batches else ", for as many steps; there are fewer, each"
        return f"{line}{steps} {which}"

    def __str__(self) -> str:
        epochs = "1 epoch" if len(self.epochs) == 1 else f"{len(self.epochs)} epochs"
        lines = [
            f"{epochs}: {self.num_recorded:,} of {self.num_full:,} samples trained, "
            f"{self.saved:.1%} left out"
        ]
        if self.num_unreached:
            lines.append(f"{self.num_unreached:,} more were selected, but not trained (yet)")
        if self.noise is not None:
            lines.append(self._noise_line())
        if self.max_noise is not None and self.made_of is not None and self.saved:
            known = "not known" if self.noise is None else "a rough guess"
            lines.append(
                f"the noise is {known}: the losses look like {self.made_of}, from which norms of "
                f"gradients do not follow; {HOW_TO_GIVE_NORMS}"
            )
        if self.num_nonfinite:
            there = " on this rank alone" * (self.num_replicas > 1)
            lines.append(
                f"{self.num_nonfinite:,} losses or signals were NaN or infinite{there}; those samples "
                "kept their scores"
            )
        return "\n".join(lines)
