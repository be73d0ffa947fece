"""The checks of an exported model. ``tests/sabotage`` shows each of them red."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.model_io import serialize
from quantkit.graph.ort_session import optimized_program
from quantkit.graph.program import Array
from quantkit.integer_session import open_integer_session
from quantkit.numerics.metrics import sqnr_db
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.small_networks import onnxruntime_outputs

# What an integer op is called in onnxruntime's optimized graph, and what only moves values.
_INTEGER = {"QGemm", "NhwcMaxPool", "MaxPool"}
_MOVING = {"Transpose", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity"}
_MOVING |= {"ReorderInput", "ReorderOutput"}


def check_fused(exported: ir.Model | Path, *, in_floats: frozenset[str]) -> None:
    """onnxruntime runs integer kernels only, ``in_floats`` excepted, with Q and DQ at the ends."""
    program = optimized_program(exported)
    counts = Counter(node.op_type for node in program.nodes)
    pairs = {"QuantizeLinear", "DequantizeLinear"}
    floats = {
        op_type
        for op_type in counts
        if op_type not in _INTEGER | _MOVING | pairs and not op_type.startswith("QLinear")
    }
    assert floats == in_floats, f"in floats: {sorted(floats)}"
    islands = sum(counts[op_type] for op_type in in_floats)
    assert counts["QuantizeLinear"] <= len(program.inputs) + islands
    assert counts["DequantizeLinear"] <= len(program.outputs) + islands
    if not in_floats:
        assert counts["QuantizeLinear"] == len(program.inputs)
        assert counts["DequantizeLinear"] == len(program.outputs)


def check_equals_onnxruntime(
    model: QuantizedModel, exported: ir.Model | Path, feeds: Mapping[str, Array]
) -> None:
    """The integer session gives onnxruntime's outputs bit for bit, and they are not constant."""
    expected = onnxruntime_outputs(exported, feeds)
    actual = open_integer_session(model).run(feeds)
    assert set(actual) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
        varies = np.unique(array).size > min(3, array.size // 4)
        assert varies, f"{name!r} hardly varies: nothing is tested"


def check_read_back(model: QuantizedModel, exported: ir.Model, folder: Path) -> QuantizedModel:
    """The file says all that the model says: reading and exporting it gives the same bytes."""
    path = folder / "exported.onnx"
    ir.save(exported, path)
    back = read_qdq(path)
    assert set(back.plan.kept_float) == set(model.plan.kept_float)
    assert dict(back.accumulator_bounds) == dict(model.accumulator_bounds)
    assert serialize(qdq_graph(back)) == path.read_bytes()
    return back


def check_close_to_float(
    exported: ir.Model | Path,
    float_model: ir.Model,
    feeds: Mapping[str, Array],
    *,
    min_sqnr_db: float,
) -> None:
    expected = onnxruntime_outputs(float_model, feeds)
    actual = onnxruntime_outputs(exported, feeds)
    for name, array in expected.items():
        sqnr = sqnr_db(array, actual[name])
        assert sqnr >= min_sqnr_db, f"{name}: {sqnr:.1f} dB"
