"""Notebooks are run when the site is built, and become pages with what their cells gave."""

import posixpath
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor

SECONDS = 120
"""The most that a cell may take."""
_QUIET = ["--log-level=ERROR"]  # a kernel warns that its ports are not encrypted


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, and its pictures, for each notebook of the folder ``notebooks``."""
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        text, pictures = as_page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    return files


def as_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Run a notebook.

    Returns:
        The page, and the pictures in it by the names that it has for them.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    ExecutePreprocessor(timeout=SECONDS, extra_arguments=_QUIET).preprocess(
        notebook, {"metadata": {"path": path.parent}}
    )
    resources = {"unique_key": path.stem, "output_files_dir": "pictures"}
    text, found = MarkdownExporter().from_notebook_node(notebook, resources)
    return text, {posixpath.normpath(name): data for name, data in found["outputs"].items()}
