"""Which versions of transformers are taken."""

import pytest

from helpers import error_without

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from infobatch.integrations.transformers.installed import check_version

pytestmark = pytest.mark.integrations


def test_an_older_transformers_is_refused():
    older = type("Trainer", (), {"_inner_training_loop": None})
    with pytest.raises(
        ImportError, match=r"transformers is 4.57.1, whose Trainer has no _run_epoch.*5.4"
    ):
        check_version(older, "4.57.1")


def test_without_transformers_the_extra_is_named(tmp_path):
    said = error_without(["transformers"], "infobatch.integrations.transformers", tmp_path)
    assert "pip install 'infobatch[transformers]'" in said
