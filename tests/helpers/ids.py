"""Names of parametrized tests."""

import re


def without_address(value):
    """What a value is written as, less its place in memory, which differs from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
