"""How the pages of docs/ become a site."""

import importlib.util
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[2] / "docs" / "hooks"


def hook(name, *packages):
    for package in packages:
        pytest.importorskip(package)
    spec = importlib.util.spec_from_file_location(name, HOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "docs/faq.md#x", "faq.md#x"),
        ("faq.md", "../README.md", "index.md"),
        ("methods/bls.md", "../faq.md", "../faq.md"),
        ("faq.md", "notebooks/first-steps.ipynb", "notebooks/first-steps.md"),
        ("faq.md", "../benchmarks/LOG.md", "benchmarks/LOG.md"),
        ("benchmarks/README.md", "../docs/faq.md", "../faq.md"),
        ("faq.md", "https://example.org/docs/faq.md", "https://example.org/docs/faq.md"),
        ("faq.md", "no-such-page.md", "no-such-page.md"),
    ],
)
def test_links_lead_to_where_files_lie_in_the_site(page, link, expected):
    assert hook("links", "mkdocs").in_site(f"[a]({link})", page) == f"[a]({expected})"


def test_what_a_docstring_names_is_a_link_where_the_package_has_it(tmp_path):
    roles = hook("roles", "griffe")
    from griffe import load_extensions, temporary_visited_package

    modules = {
        "__init__.py": "from package.near import Near\n__all__ = ['Near']",
        "base.py": "class Base:\n    def inherited(self): ...",
        "near.py": "from package.base import Base\nclass Near(Base):\n"
        "    def own(self):\n        ':meth:`inherited`'",
        "far.py": "def far():\n    ':class:`Near`, :meth:`Near.own`, :func:`nothing`'",
    }
    extensions = load_extensions(roles.Roles)
    with temporary_visited_package("package", modules, extensions=extensions) as package:
        near, far = package["near.Near.own"].docstring.value, package["far.far"].docstring.value
    assert 'identifier="package.base.Base.inherited"><code>inherited</code>' in near
    assert 'identifier="package.near.Near"' in far
    assert 'identifier="package.near.Near.own"' in far
    assert far.endswith("`nothing`")
