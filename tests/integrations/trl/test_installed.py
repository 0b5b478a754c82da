"""Which versions of TRL are taken."""

import pytest

from helpers import error_without

pytest.importorskip("trl")

from infobatch.integrations.trl.installed import check_version

pytestmark = pytest.mark.integrations


def test_a_trl_that_generates_otherwise_is_refused():
    other = type("GRPOTrainer", (), {"_generate_and_score_completions": None})
    with pytest.raises(ImportError, match=r"trl is 0.9, whose GRPOTrainer has no _calculate_rewards"):
        check_version(other, "0.9")


def test_without_trl_the_extra_is_named(tmp_path):
    said = error_without(["trl"], "infobatch.integrations.trl", tmp_path)
    assert "pip install 'infobatch[trl]'" in said
