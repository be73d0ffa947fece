"""Other weights in the same graph."""

import numpy as np

from quantkit.graph.ort_session import open_session
from quantkit.passes.prepare import prepare
from quantkit.passes.replace_constants import replace_constants
from tests.models import conv_bn_relu6


def test_both_forms_of_the_graph_get_the_arrays() -> None:
    prepared = prepare(conv_bn_relu6())
    old = dict(prepared.program.constants)
    other = replace_constants(prepared, {"w2": old["w2"].astype(np.float64) * 2, "b2": old["b2"]})
    assert other.program.constants["w2"].dtype == np.float32
    np.testing.assert_array_equal(other.program.constants["w2"], old["w2"] * 2)
    for name, array in other.program.constants.items():
        held = other.model.graph.initializers[name].const_value
        assert held is not None
        np.testing.assert_array_equal(held.numpy(), array)
        assert held.name == name
    assert other.digest == prepared.digest
    assert other.clamps == prepared.clamps
    x = {"x": np.ones((1, 3, 8, 8), np.float32)}
    before, after = (open_session(each.model).run(x)["y"] for each in (prepared, other))
    assert np.abs(before - after).max() > 0.1


def test_the_original_stays() -> None:
    prepared = prepare(conv_bn_relu6())
    old = {name: array.copy() for name, array in prepared.program.constants.items()}
    replace_constants(prepared, {name: array * 0 for name, array in old.items()})
    for name, array in old.items():
        np.testing.assert_array_equal(prepared.program.constants[name], array)
        held = prepared.model.graph.initializers[name].const_value
        assert held is not None
        np.testing.assert_array_equal(held.numpy(), array)


def test_nothing_to_replace() -> None:
    prepared = prepare(conv_bn_relu6())
    same = replace_constants(prepared, {})
    assert dict(same.program.constants) == dict(prepared.program.constants)
