"""What became of channels, and how a file tells it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.errors import ModelError
from quantkit.recovery.channel_changes import (
    UNCHANGED,
    ChannelChange,
    at_most_on_grid,
    from_text,
    on_grid,
    six_digits,
    to_text,
)


def test_factors_and_shifts_go_to_channels() -> None:
    change = ChannelChange(np.array([2.0, 0.5]), np.array([1.0, 0.0]))
    x = np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)
    found = change.applied(x)
    np.testing.assert_array_equal(found[:, 0], x[:, 0] * 2 - 1)
    np.testing.assert_array_equal(found[:, 1], x[:, 1] / 2)
    flat = change.applied(x.reshape(2, 8))
    np.testing.assert_array_equal(flat, found.reshape(2, 8))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(UNCHANGED.applied(x), x)
    np.testing.assert_array_equal(change.undone(found), x)
    np.testing.assert_array_equal(change.undone(flat), x.reshape(2, 8))
    assert change.undone(found).dtype == np.float32


@given(
    st.lists(st.tuples(st.floats(2.0**-20, 2.0**20), st.floats(-1e6, 1e6)), min_size=1, max_size=9)
)
def test_the_text_tells_all(numbers: list[tuple[float, float]]) -> None:
    factors = on_grid(np.array([factor for factor, _ in numbers]))
    shifts = six_digits(np.array([shift for _, shift in numbers]))
    changes = {"a": ChannelChange(factors, shifts), 'b "ö\n': ChannelChange(factors, np.zeros(()))}
    found = from_text(to_text(changes))
    assert list(found) == list(changes)
    for name, change in changes.items():
        np.testing.assert_array_equal(found[name].factors, change.factors)
        np.testing.assert_array_equal(found[name].shifts + 0 * factors, change.shifts + 0 * factors)


@given(st.floats(2.0**-30, 2.0**30))
def test_the_grid(factor: float) -> None:
    near = float(on_grid(np.array([factor]))[0])
    below = float(at_most_on_grid(np.array([factor]))[0])
    assert abs(np.log2(near / factor)) <= 1 / 16 + 1e-9
    assert 2**-0.1251 <= below / factor <= 1 + 1e-12
    assert float(on_grid(np.array([near]))[0]) == near


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[1]",
        "null",
        "7",
        '{"a": 1}',
        '{"a": [1]}',
        '{"a": [1, 2, 3]}',
        '{"a": ["x", 0]}',
        '{"a": [[1, [2]], 0]}',
        '{"a": [[[1]], 0]}',
        '{"a": [[], 0]}',
        '{"a": [null, 0]}',
        '{"a": [[1e9], 0]}',
        '{"a": [[NaN], 0]}',
        '{"a": [[0], [Infinity]]}',
        '{"a": [[0], 1e300]}',
        '{"a": [[1' + "0" * 400 + "], 0]}",
        "[" * 100_000,
    ],
)
def test_damaged_texts(text: str) -> None:
    with pytest.raises(ModelError, match="metadata say of rescaled channels cannot be read"):
        from_text(text)


@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (1, 5), (3,), ()])
def test_channels_of_another_network(shape: tuple[int, ...]) -> None:
    (change,) = from_text(json.dumps({"a": [[0, 1, 2], 0]})).values()
    with pytest.raises(ModelError, match="tell of 3 rescaled channels"):
        change.applied(np.zeros(shape, np.float32))
