"""AveragePool with dilations: dropped where they are the default, and then quantized."""

import pytest

from quantkit.graph.model_io import program_of
from quantkit.ops.contract import OPS
from quantkit.passes.note import PassNote
from quantkit.passes.prepare import prepare
from tests.models import network
from tests.passes.checks import assert_prepared, notes_of


def pool(dilations: list[int]) -> str:
    return f"y = AveragePool <kernel_shape = [2, 2], dilations = {dilations}> (x)"


@pytest.mark.parametrize("opset", [19, 21, 22])
def test_units_are_dropped(opset: int) -> None:
    model = network(pool([1, 1]), {}, outputs="float[N,3,7,7] y", opset=opset)
    prepared = assert_prepared(model)
    (node,) = prepared.program.nodes
    assert "dilations" not in node.attributes
    (note,) = notes_of(prepared, "drop_unit_dilations")
    assert note == PassNote("drop_unit_dilations", node.name, "AveragePool", True, "all are 1")


def test_others_stay() -> None:
    model = network(pool([1, 2]), {}, outputs="float[N,3,7,6] y", opset=21)
    prepared = assert_prepared(model)
    assert prepared.program.nodes[0].integers("dilations", ()) == (1, 2)
    (note,) = notes_of(prepared, "drop_unit_dilations")
    assert (note.applied, note.message) == (False, "is dilated by [1, 2]")


def test_a_pool_without_dilations_gets_no_note() -> None:
    model = network("y = AveragePool <kernel_shape = [8, 8]> (x)", {}, outputs="float[N,3,1,1] y")
    assert notes_of(assert_prepared(model), "drop_unit_dilations") == []


def test_the_pool_has_an_integer_kernel() -> None:
    model = network(pool([1, 1]), {}, outputs="float[N,3,7,7] y", opset=21)
    (before,), (after,) = program_of(model).nodes, prepare(model).program.nodes
    assert "dilations" in (OPS["AveragePool"].refusal(before, [None]) or "")
    assert OPS["AveragePool"].refusal(after, [None]) is None
