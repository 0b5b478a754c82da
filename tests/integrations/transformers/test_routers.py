"""What a router's loss counts in the loss of a mixture of experts."""

from types import SimpleNamespace

import pytest

pytest.importorskip("transformers")

from transformers import PreTrainedConfig, Qwen3VLMoeConfig

from infobatch.integrations.transformers.routers import router_coefficient

pytestmark = pytest.mark.integrations


def test_the_models_own_number_is_the_one_that_counts():
    model = SimpleNamespace(aux_loss_coef=0.5, config=SimpleNamespace(router_aux_loss_coef=0.1))
    assert router_coefficient(model) == 0.5


def test_a_models_config_has_it_or_that_of_its_language_model():
    config = Qwen3VLMoeConfig(text_config={"router_aux_loss_coef": 0.25})
    assert router_coefficient(SimpleNamespace(config=config)) == 0.25
    assert router_coefficient(SimpleNamespace(config=config.text_config)) == 0.25


@pytest.mark.parametrize("model", [object(), SimpleNamespace(config=PreTrainedConfig())])
def test_a_model_that_does_not_tell_is_refused(model):
    with pytest.raises(ValueError, match=r"aux_loss.*neither it nor.* set model.config.router_aux_loss"):
        router_coefficient(model)
