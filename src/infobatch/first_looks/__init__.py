"""What a run looks at once, for to look waits for the device, or follows a whole graph."""

from infobatch.first_looks.looks import FirstLooks

__all__ = ["FirstLooks"]
