"""The checks of exported models must have been seen red."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.program import Array
from quantkit.numerics.affine import QuantizedTensor
from quantkit.quantized_model.model import QuantizedModel
from tests.quantized_model.checks import (
    check_close_to_float,
    check_equals_onnxruntime,
    check_fused,
    check_read_back,
)
from tests.small_networks import Network, calibration_feeds, quantized

# Square weights whose channels differ, so that a swapped axis fits and matters.
SPREAD = np.array([0.02, 0.2, 1.0, 5.0])
RNG = np.random.default_rng(0)
NETWORK = Network(
    """(float[N,4,6,6] x, float[4,4,3,3] w, float[4] b, float[4,4,1,1] v) => (float[N,4,6,6] y) {
      c = Conv<pads = [1,1,1,1]>(x, w, b)
      r = Relu(c)
      y = Conv(r, v)
    }""",
    (4, 6, 6),
    constants={
        "w": RNG.normal(0, 0.2, (4, 4, 3, 3)) * SPREAD[:, None, None, None],
        "b": np.array([0.5, -0.25, 1.0, 2.0]),
        "v": RNG.normal(0, 0.5, (4, 4, 1, 1)) / SPREAD[None, :, None, None],
    },
)


@pytest.fixture(scope="module")
def model() -> QuantizedModel:
    return quantized(NETWORK)[0]


def check_all(model: QuantizedModel, exported: ir.Model, folder: Path) -> None:
    check_fused(exported, in_floats=frozenset())
    check_equals_onnxruntime(model, exported, NETWORK.feeds(3))
    check_close_to_float(exported, NETWORK.model(), calibration_feeds(NETWORK), min_sqnr_db=25.0)
    _ = check_read_back(model, exported, folder)


def test_the_honest_model_passes(model: QuantizedModel, tmp_path: Path) -> None:
    check_all(model, qdq_graph(model), tmp_path)


def edit(exported: ir.Model, name: str, array: Array) -> None:
    exported.graph.initializers[name].const_value = ir.tensor(array, name=name)


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("name", ["x", "r"])
def test_zero_point_off_by_one(model: QuantizedModel, name: str, step: int) -> None:
    zero_point = int(model.plan.params[name].zero_point)
    wrong = np.array((zero_point + step) % 256, np.uint8)
    exported = qdq_graph(model)
    edit(exported, f"{name}_zero_point", wrong)
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        check_equals_onnxruntime(model, exported, NETWORK.feeds(3))


def test_bias_scale_without_the_inputs(model: QuantizedModel) -> None:
    exported = qdq_graph(model)
    weight_scale = model.constants["w"].params.scale
    edit(exported, "b_scale", weight_scale)
    with pytest.raises(AssertionError, match=r"in floats: .*Conv"):
        check_fused(exported, in_floats=frozenset())


def test_bias_codes_without_the_inputs_scale(model: QuantizedModel) -> None:
    bias = model.constants["b"]
    codes = np.rint(bias.data * model.plan.params["x"].scale).astype(np.int32)
    wrong = replace(model, constants={**model.constants, "b": QuantizedTensor(codes, bias.params)})
    with pytest.raises(AssertionError, match="dB"):
        check_close_to_float(
            qdq_graph(wrong), NETWORK.model(), calibration_feeds(NETWORK), min_sqnr_db=25.0
        )


def test_swapped_scale_axis_of_the_codes(model: QuantizedModel) -> None:
    """Codes made with the scale of the input channel, read with that of the output channel."""
    weight = model.constants["w"]
    real = model.prepared.program.constants["w"]
    scale = weight.params.scale[None, :, None, None]
    codes = np.clip(np.rint(real / scale), -127, 127).astype(np.int8)
    wrong = replace(
        model, constants={**model.constants, "w": QuantizedTensor(codes, weight.params)}
    )
    with pytest.raises(AssertionError, match="dB"):
        check_close_to_float(
            qdq_graph(wrong), NETWORK.model(), calibration_feeds(NETWORK), min_sqnr_db=25.0
        )


def test_swapped_scale_axis_in_the_file(model: QuantizedModel, tmp_path: Path) -> None:
    """onnxruntime does not look at the axis: only reading the file back tells."""
    exported = qdq_graph(model)
    node = next(n for n in exported.graph if n.name == "w_DequantizeLinear")
    node.attributes["axis"] = ir.AttrInt64("axis", 1)
    with pytest.raises(AssertionError):
        _ = check_read_back(model, exported, tmp_path)


def test_a_float_op_in_the_body(model: QuantizedModel) -> None:
    exported = qdq_graph(model)
    conv = next(n for n in exported.graph if n.outputs[0].name == "r")
    quantize = next(iter(conv.outputs[0].uses())).node
    stray = ir.node("Shrink", [conv.outputs[0]])
    stray.outputs[0].name = "stray"
    exported.graph.insert_after(conv, stray)
    quantize.replace_input_with(0, stray.outputs[0])
    with pytest.raises(AssertionError, match="in floats"):
        check_fused(exported, in_floats=frozenset())


def test_a_constant_output_is_no_proof(model: QuantizedModel) -> None:
    feeds = {"x": np.zeros((1, 4, 6, 6), np.float32)}
    constants = dict(model.constants)
    for name in ("w", "b", "v"):
        zeros = np.zeros_like(constants[name].data)
        constants[name] = QuantizedTensor(zeros, constants[name].params)
    dead = replace(model, constants=constants)
    with pytest.raises(AssertionError, match="hardly varies"):
        check_equals_onnxruntime(dead, qdq_graph(dead), feeds)
