import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantkit.config import QuantConfig
from quantkit.errors import ConfigError
from quantkit.recipes import (
    ACCURATE,
    BALANCED,
    FAST,
    RECIPES,
    nearest_recipe,
    read_config,
    recipe_name,
    recipe_of,
    write_recipe,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.lists(TEXT, max_size=3).map(tuple)
CONFIGS = st.builds(
    QuantConfig,
    range_estimator=TEXT,
    percentile=st.floats(50, 100, exclude_min=True),
    per_channel=st.booleans(),
    nodes_to_reduce_range=NAMES,
    activation_type=st.sampled_from(["uint8", "int8"]),
    tensors_in_16_bits=NAMES,
    bias_correction=st.booleans(),
    activation_range_search=st.booleans(),
    learned_rounding=st.booleans(),
    empirical_bias_correction=st.booleans(),
    block_reconstruction=st.booleans(),
    nodes_to_exclude=NAMES,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_recipe_has_the_steps_of_the_one_before() -> None:
    assert list(RECIPES) == ["fast", "balanced", "accurate"]
    assert QuantConfig() == FAST
    assert FAST.steps_with_data() == ()
    assert BALANCED.steps_with_data() == (
        "activation_range_search",
        "learned_rounding",
        "empirical_bias_correction",
    )
    assert ACCURATE.steps_with_data() == (*BALANCED.steps_with_data(), "block_reconstruction")


def test_reads_toml(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'range_estimator = "percentile"\npercentile = 99.9\n'
        'per_channel = false\nnodes_to_exclude = ["a", "b"]\nop_types_to_quantize = ["Conv"]\n',
    )
    assert read_config(path) == QuantConfig(
        range_estimator="percentile",
        percentile=99.9,
        per_channel=False,
        nodes_to_exclude=("a", "b"),
        op_types_to_quantize=("Conv",),
    )


def test_a_file_changes_its_base(tmp_path: Path) -> None:
    path = written(tmp_path, 'base = "accurate"\nlearned_rounding = false\n')
    expected = ACCURATE.model_copy(update={"learned_rounding": False})
    assert read_config(path) == recipe_of(path, "fast") == expected


def test_the_command_gives_the_base_of_a_file_without_one(tmp_path: Path) -> None:
    path = written(tmp_path, "per_channel = false\n")
    expected = BALANCED.model_copy(update={"per_channel": False})
    assert recipe_of(path, "balanced") == expected
    assert recipe_of(path) == QuantConfig(per_channel=False)


def test_recipes_by_name() -> None:
    assert recipe_of("accurate") is ACCURATE
    with pytest.raises(ConfigError, match=r"no recipe is called 'Fast'; give fast, balanced, acc"):
        recipe_of("Fast")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "per_chanel = false",
            r"no entry is called 'per_chanel'; did you mean per_channel\? The entries are",
        ),
        ('per_channel = "yes"', 'per_channel: true or false expected, got "yes"'),
        ("per_channel = 1", "per_channel: true or false expected, got 1"),
        ('nodes_to_exclude = "conv"', 'nodes_to_exclude: a list of names expected, got "conv"'),
        ("nodes_to_exclude = [1]", r"nodes_to_exclude: a list of names expected, got \[1\]"),
        ("per_channel = [", "is not TOML"),
        ("percentile = 50", "percentile: a number above 50, at most 100 expected, got 50"),
        ("percentile = 100.5", "percentile: a number above 50, at most 100 expected, got 100.5"),
        ("percentile = nan", "percentile: a number above 50, at most 100 expected, got NaN"),
        ('percentile = "99"', 'percentile: a number above 50, at most 100 expected, got "99"'),
        ("percentile = true", "percentile: a number above 50, at most 100 expected, got true"),
        ("percentile = 1" + "0" * 5000, "recipe .* is not TOML"),
        ("a = " + "[" * 3000, "is not TOML: brackets in brackets, too many"),
        ("[quantkit]\nper_channel = false", r"\[quantkit\] is a table; entries stand at the top"),
        ('base = "best"', 'base: one of fast, balanced, accurate expected, got "best"'),
        ("base = [1]", r"base: one of fast, balanced, accurate expected, got \[1\]"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(written(tmp_path, text))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        recipe_of(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        recipe_of(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'range_estimator = "\xe9"')
    with pytest.raises(ConfigError, match="is not TOML"):
        read_config(tmp_path / "latin.toml")


@settings(max_examples=200, deadline=None)
@given(config=CONFIGS, comments=st.lists(st.text(st.characters(codec="utf-8")), max_size=3))
def test_what_is_written_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, config: QuantConfig, comments: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.toml"
    write_recipe(config, path, comments)
    assert all(read_config(path, default) == config for default in RECIPES)


def test_what_is_written_is_for_people(tmp_path: Path) -> None:
    config = BALANCED.model_copy(
        update={"nodes_to_exclude": ('a "b"\\c', "d\n\x7f"), "percentile": 99.9}
    )
    path = tmp_path / "recipe.toml"
    write_recipe(config, path, ["top-1 0.3 % below the float model's\n\x00", ""])
    assert path.read_text(encoding="utf-8") == (
        "# top-1 0.3 % below the float model's\n"
        "#\n"
        "#\n"
        'base = "balanced"\n'
        "percentile = 99.9\n"
        'nodes_to_exclude = ["a \\"b\\"\\\\c", "d\\n\\u007f"]\n'
    )


def test_a_recipe_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none/r.toml' cannot be written: No such file"):
        write_recipe(FAST, tmp_path / "none" / "r.toml")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_recipe(FAST, tmp_path)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_names() -> None:
    assert [recipe_name(config) for config in RECIPES.values()] == list(RECIPES)
    changed = BALANCED.model_copy(update={"per_channel": False, "percentile": 99.0})
    assert recipe_name(changed) == "custom (balanced, but: percentile: 99.0, per_channel off)"
    assert nearest_recipe(changed) == "balanced"
