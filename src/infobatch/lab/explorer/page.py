"""The explorer as one self-contained HTML page."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from infobatch.lab.explorer.scatter import TOOLS, empty_map, plot_library
from infobatch.lab.files import write_text_whole

ROOM = "infobatch.lab.explorer"
SCRIPTS = [
    "data",
    "state",
    "sheets",
    "plot",
    "filters",
    "grid",
    "curve",
    "detail",
    "export",
    "keys",
    "main",
]
"""The page's scripts: each imports from those before it, as ``explorer/NAME``."""


def write_explorer(
    path: Path,
    head: Mapping[str, Any],
    facts: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    sheets: Sequence[str] = (),
) -> Path:
    """Write the page.

    Args:
        path: Where to write it.
        head: What its head shows: ``title``, ``figures`` and ``notes``.
        facts: What its scripts are told, as JSON.
        arrays: What they are told in numbers: the columns by name.
        sheets: The thumbnails' sheets, WebP files in base64.

    Returns:
        The path.
    """
    environment = Environment(loader=PackageLoader(ROOM), autoescape=True, trim_blocks=True)
    html = environment.get_template("page.html.jinja").render(
        **head,
        style=Markup(_static("page.css")),
        library=Markup(_script(plot_library())),
        modules=_json({"imports": {f"explorer/{name}": _module(name) for name in SCRIPTS}}),
        plot=_json(empty_map(facts["numShown"])),
        facts=_json(facts),
        arrays={name: _base64(values) for name, values in arrays.items()},
        sheets=sheets,
        tools=TOOLS,
    )
    write_text_whole(path, html)
    return path


def _static(name: str) -> str:
    return (files(ROOM) / "static" / name).read_text(encoding="utf-8")


def _module(name: str) -> str:
    script = base64.b64encode(_static(f"{name}.js").encode()).decode()
    return f"data:text/javascript;base64,{script}"


def _script(text: str) -> str:
    """A script that may stand in a page: nothing in it ends its element."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _json(value: Any) -> Markup:
    """JSON that may stand in a script element, whatever the texts in it are."""
    return Markup(json.dumps(value, ensure_ascii=False).replace("<", "\\u003c"))


def _base64(values: np.ndarray) -> str:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(np.ascontiguousarray(little).tobytes()).decode()
