"""What training tells of each sample, as one HTML page to look at.

``explore`` reads the recorded epochs of a run, and ``page`` writes them as a page. On it are the data
map (``scatter``), lists of samples worth a look (``lists``, ``duplicates``), what there is to see of
each sample (``contents``, ``thumbnails``) and its losses (``histories``). ``facts`` is what the page's
scripts are told of all this; they are in ``static``.
"""

from infobatch.lab.explorer.contents import Contents, contents_of
from infobatch.lab.explorer.explore import explore, open_run, write_page

__all__ = ["Contents", "contents_of", "explore", "open_run", "write_page"]
