"""Pages of the site lie as they do in the repository, so that a link between them holds in both.

The README is the first page. Results, examples and what else the pages link to outside this folder join
the site as they are.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = ("*.md", "LICENSE", "CITATION.cff", "benchmarks/**/*.*", "examples/*.py")

_LINK = re.compile(r"\]\((?!\w+:|#)([^()\s#]+)")


def site_path(path: str) -> str:
    """Where a file of the repository lies in the site, where notebooks are pages."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/").replace(".ipynb", ".md")


def repository_path(path: str) -> str:
    """Where a file of the site lies in the repository."""
    if path == "index.md":
        return "README.md"
    return path if (ROOT / path).exists() else f"docs/{path}"


def in_site(markdown: str, page: str) -> str:
    """A page's text with its links to files of the repository as the site has them.

    Args:
        markdown: The text.
        page: Where the page lies in the site.
    """
    folder = posixpath.dirname(repository_path(page))

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        if not (ROOT / target).exists():  # a page that the site alone has, or one that mkdocs will miss
            return link[0]
        return f"]({posixpath.relpath(site_path(target), posixpath.dirname(page) or '.')}"

    return _LINK.sub(moved, markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link to outside their folder."""
    for path in sorted({path for pattern in OUTSIDE for path in ROOT.glob(pattern)}):
        if path.is_file() and "__pycache__" not in path.parts:
            name = site_path(path.relative_to(ROOT).as_posix())
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where files lie in the site."""
    return in_site(markdown, page.file.src_uri)
