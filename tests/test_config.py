import pytest
from pydantic import ValidationError

from quantkit.config import QuantConfig, config_of
from quantkit.errors import ConfigError


def test_defaults() -> None:
    config = QuantConfig()
    assert (config.range_estimator, config.percentile) == ("auto", 99.99)
    assert (config.per_channel, config.weight_qmax("conv")) == (True, 127)
    assert (config.activation_type, config.tensors_in_16_bits) == ("uint8", ())
    assert QuantConfig(reduce_range=True).weight_qmax("conv") == 64
    only = QuantConfig(nodes_to_reduce_range=("conv",))
    assert (only.weight_qmax("conv"), only.weight_qmax("other")) == (64, 127)


def test_is_frozen() -> None:
    config = QuantConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.per_channel = False


def test_the_steps_that_need_data() -> None:
    assert QuantConfig().steps_with_data() == ()
    config = QuantConfig(block_reconstruction=True, activation_range_search=True)
    assert config.steps_with_data() == ("activation_range_search", "block_reconstruction")


def test_what_metadata_hold_is_the_configuration() -> None:
    config = QuantConfig(activation_type="int8", tensors_in_16_bits=("a", "b"), percentile=99.9)
    assert QuantConfig.model_validate_json(config.model_dump_json()) == config


def test_whole_numbers_are_percentiles_too() -> None:
    assert config_of({"percentile": 100}, "options").percentile == 100.0
    with pytest.raises(ConfigError, match="options: percentile: a number above 50"):
        config_of({"percentile": 12.5}, "options")


def test_activations_have_8_bits() -> None:
    with pytest.raises(ConfigError, match='"uint8" or "int8" expected, got "int16"'):
        config_of({"activation_type": "int16"}, "options")
