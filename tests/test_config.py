from pathlib import Path

import pytest
from pydantic import ValidationError

from quantkit.config import QuantConfig, read_config
from quantkit.errors import ConfigError


def test_defaults() -> None:
    config = QuantConfig()
    assert (config.range_estimator, config.per_channel, config.weight_qmax) == ("minmax", True, 127)
    assert QuantConfig(reduce_range=True).weight_qmax == 64


def test_is_frozen() -> None:
    config = QuantConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.per_channel = False


def test_reads_toml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'per_channel = false\nnodes_to_exclude = ["a", "b"]\nop_types_to_quantize = ["Conv"]\n'
    )
    config = read_config(path)
    assert config == QuantConfig(
        per_channel=False, nodes_to_exclude=("a", "b"), op_types_to_quantize=("Conv",)
    )
    assert QuantConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "per_chanel = false",
            r"per_chanel: Extra inputs .* the entries are range_estimator, per_",
        ),
        ('per_channel = "yes"', "per_channel: Input should be a valid boolean"),
        ("per_channel = 1", "per_channel: Input should be a valid boolean"),
        ('nodes_to_exclude = "conv"', "nodes_to_exclude: Input should be a valid tuple"),
        ("nodes_to_exclude = [1]", r"nodes_to_exclude\.0: Input should be a valid string"),
        ("per_channel = [", "is not TOML"),
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
