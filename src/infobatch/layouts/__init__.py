"""Who holds the scores, where several ranks train one model: each rank all of them, or each a part."""

from infobatch.layouts.base import Layout
from infobatch.layouts.replicated import Replicated
from infobatch.layouts.sharded import Sharded

__all__ = ["Layout", "Replicated", "Sharded"]
