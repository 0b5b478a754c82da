"""A policy around another one, as which a run takes it."""

from __future__ import annotations

from typing import Any

from infobatch.policies.base import Policy
from infobatch.policies.options import set_fields


class Wrapper(Policy):
    """A policy that asks another one; what it does not say itself, that one says.

    Attributes:
        policy: The policy within.
    """

    policy: Policy

    def _wrap(self, policy: Policy, **own: Any) -> None:
        """Take in a policy and what it says, but for what is the wrapper's own."""
        within = {name: getattr(policy, name) for name in Policy.__annotations__}
        set_fields(self, policy=policy, **within | own)

    def check_multiple(self, multiple: int) -> None:
        self.policy.check_multiple(multiple)

    def leaves_out_exactly(self, num_pruned: int) -> bool:
        return self.policy.leaves_out_exactly(num_pruned)

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        self.policy.check_target(num_pruned, num_samples)

    def _check_target_within(self, num_pruned: int, num_samples: int, which: str) -> None:
        """Check what a target leaves out of the samples that the policy is asked about.

        Args:
            num_pruned: How many samples it leaves out of them.
            num_samples: How many they are.
            which: Which they are, for the error.
        """
        try:
            self.policy.check_target(num_pruned, num_samples)
        except ValueError as error:
            raise ValueError(f"of {which}, {error}") from error
