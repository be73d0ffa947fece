from pathlib import Path

import pytest
from pydantic import ValidationError

from quantkit.config import QuantConfig, config_of, read_config
from quantkit.errors import ConfigError, UnknownNameError
from quantkit_cli.quantization_options import chosen_config


def test_defaults() -> None:
    config = QuantConfig()
    assert (config.range_estimator, config.percentile) == ("auto", 99.99)
    assert (config.per_channel, config.weight_qmax("conv")) == (True, 127)
    assert QuantConfig(reduce_range=True).weight_qmax("conv") == 64
    only = QuantConfig(nodes_to_reduce_range=("conv",))
    assert (only.weight_qmax("conv"), only.weight_qmax("other")) == (64, 127)


def test_is_frozen() -> None:
    config = QuantConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.per_channel = False


def test_reads_toml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'range_estimator = "percentile"\npercentile = 99.9\n'
        'per_channel = false\nnodes_to_exclude = ["a", "b"]\nop_types_to_quantize = ["Conv"]\n'
    )
    config = read_config(path)
    assert config == QuantConfig(
        range_estimator="percentile",
        percentile=99.9,
        per_channel=False,
        nodes_to_exclude=("a", "b"),
        op_types_to_quantize=("Conv",),
    )
    assert QuantConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "per_chanel = false",
            r"per_chanel: Extra inputs .* the entries are range_estimator, percentile, per_",
        ),
        ('per_channel = "yes"', "per_channel: Input should be a valid boolean"),
        ("per_channel = 1", "per_channel: Input should be a valid boolean"),
        ('nodes_to_exclude = "conv"', "nodes_to_exclude: Input should be a valid tuple"),
        ("nodes_to_exclude = [1]", r"nodes_to_exclude\.0: Input should be a valid string"),
        ("per_channel = [", "is not TOML"),
        ("percentile = 50", "percentile: Input should be greater than 50"),
        ("percentile = 100.5", "percentile: Input should be less than or equal to 100"),
        ("percentile = nan", "percentile: Input should be"),
        ('percentile = "99"', "percentile: Input should be a valid number"),
        ("percentile = true", "percentile: Input should be a valid number"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'range_estimator = "\xe9"')
    with pytest.raises(ConfigError, match="is not TOML"):
        read_config(tmp_path / "latin.toml")


def test_whole_numbers_are_percentiles_too() -> None:
    assert config_of({"percentile": 100}, "options").percentile == 100.0
    with pytest.raises(ConfigError, match="options: percentile: Input should be greater than 50"):
        config_of({"percentile": 12.5}, "options")


def test_options_win_over_the_recipe_and_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('range_estimator = "percentile"\npercentile = 99.9\nper_channel = false\n')
    nothing = (None, None, None, None, None)
    assert chosen_config(path, None, *nothing) == QuantConfig(
        range_estimator="percentile", percentile=99.9, per_channel=False
    )
    config = chosen_config(path, "mse", *nothing, percentile=98.0)
    assert (config.range_estimator, config.percentile) == ("mse", 98.0)
    with pytest.raises(ConfigError, match="options: percentile: Input should be less than or"):
        chosen_config(None, None, *nothing, percentile=101.0)
    with pytest.raises(UnknownNameError, match="unknown range estimator 'kl'; known: auto, "):
        chosen_config(None, "kl", *nothing)
