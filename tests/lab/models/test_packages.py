"""Packages that only some tasks need."""

import sys

import pytest

from helpers.mae import QUICK
from infobatch.lab.training.validate import check_config

pytestmark = pytest.mark.usefixtures("masked_size")


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers: pip install 'infobatch\[tasks"):
        check_config(QUICK)
