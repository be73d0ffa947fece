"""Deliberately damaged QDQ files: one error each, which names the node."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from quantkit.errors import ModelError
from quantkit.quantized_model.model import QuantizedModel
from tests.quantized_model.qdq_texts import write

Damage = Callable[[onnx.GraphProto], object]

FLOAT_WEIGHT = "float[2,3,1,1] w = {0.2, -0.4, 2.0, -1.27, 0.6, 0.03}"
FLOAT_BIAS = {
    "b": "float[2] b = {0.3, -0.1}",
    "bd": "",
    "c": "[conv] c = Conv(xd, wd, b)",
}


def node_called(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    node: onnx.NodeProto = next(node for node in graph.node if node.name == name)
    return node


def put(name: str, value: Any, dtype: Any = np.float32) -> Damage:
    """Another initializer in the place of one; what is declared of it elsewhere stays."""

    def damage(graph: onnx.GraphProto) -> None:
        tensor = ir.to_proto(ir.tensor(np.array(value, dtype), name=name))
        next(other for other in graph.initializer if other.name == name).CopyFrom(tensor)

    return damage


def drop_inputs(node: str, left: int) -> Damage:
    def damage(graph: onnx.GraphProto) -> None:
        inputs = node_called(graph, node).input
        del inputs[left:]

    return damage


def read_from(node: str, position: int, value: str) -> Damage:
    return lambda graph: node_called(graph, node).input.__setitem__(position, value)


def attribute(node: str, name: str, value: Any) -> Damage:
    def damage(graph: onnx.GraphProto) -> None:
        attributes = node_called(graph, node).attribute
        kept = [other for other in attributes if other.name != name]
        del attributes[:]
        attributes.extend([*kept, ir.to_proto(ir.convenience.convert_attribute(name, value))])

    return damage


def together(*damages: Damage) -> Damage:
    return lambda graph: [damage(graph) for damage in damages]


def without_initializer(name: str) -> Damage:
    return lambda graph: graph.initializer.remove(
        next(other for other in graph.initializer if other.name == name)
    )


DAMAGED: dict[str, tuple[Damage, str]] = {
    "scale absent": (drop_inputs("x_q", 1), r"x_q.* has input size 1"),
    "scale without a name": (read_from("x_q", 1, ""), r"x_q.*'s input 1"),
    "scale is no value": (without_initializer("xs"), "'xs' of node: name: x_q"),
    "scale 0": (put("xs", 0.0), "node 'x_q': scale of 'x' is 0.0; a scale must be finite"),
    "scale negative": (put("xs", -1.0), "node 'x_q': scale of 'x' is -1.0; a scale must be finite"),
    "scale NaN": (put("xs", np.nan), "node 'x_q': scale of 'x' is nan; a scale must be finite"),
    "scale infinite": (
        put("xs", np.inf),
        "node 'x_q': scale of 'x' is inf; a scale must be finite",
    ),
    "channel scale 0": (
        put("ws", [0.1, 0.0]),
        "node 'w_dq': scale of 'w_quantized' is 0.0; a scale must be finite",
    ),
    "channel scale NaN": (
        put("ws", [0.1, np.nan]),
        "node 'w_dq': scale of 'w_quantized' is nan; a scale must be finite",
    ),
    "channel scale infinite": (
        put("ws", [np.inf, 1]),
        "node 'w_dq': scale of 'w_quantized' is inf; a scale must be finite",
    ),
    "scale in double": (put("xs", 0.1, np.float64), "'x_q': its scale is float64, not float32"),
    "scale in integers": (put("xs", 1, np.int32), "'x_q': its scale is int32, not float32"),
    "scale empty": (put("xs", []), "node 'x_q': its scale is empty"),
    "scale a matrix": (put("ws", np.ones((2, 3))), "'w_dq': 6 scales for 2 channels along axis 0"),
    "scale a column": (
        put("ws", [[0.1], [0.2]]),
        r"node 'w_dq': its scale .and zero point. must be a scalar .* got shape \(2, 1\) and",
    ),
    "zero point a column": (
        put("xz", [[3]], np.uint8),
        r"node 'x_q': its scale .and zero point. must be a scalar .* and \(1, 1\)",
    ),
    "scale too small for float32": (
        put("ys", 1e-44),
        r"node 'conv' \(Conv\): the multiplier .* is not a finite float32",
    ),
    "scales too many": (
        together(put("ws", [1, 1, 1]), put("wz", [0, 0, 0], np.int8)),
        "node 'w_dq': 3 scales for 2 channels along axis 0",
    ),
    "scales of the input too many": (
        together(put("xs", [1] * 5), put("xz", [0] * 5, np.uint8)),
        "node 'x_q': 5 scales for 3 channels along axis 1",
    ),
    "zero points too many": (
        put("wz", [0, 0, 0], np.int8),
        "node 'w_dq': 3 zero points for 2 scales",
    ),
    "zero point float": (put("xz", 3.0), "node 'x_q': its zero point is float"),
    "zero point int64": (put("xz", 300, np.int64), "node 'x_q': its zero point is int64"),
    "zero point int32": (put("xz", 300, np.int32), "node 'x_q': QuantizeLinear has no int32"),
    "zero point bool": (put("xz", True, np.bool_), "node 'x_q': its zero point is bool"),
    "codes and zero point differ": (
        put("wz", [0, 0], np.uint8),
        "node 'w_dq': codes are int8, the zero point is uint8",
    ),
    "bias zero point out of range": (
        put("bz", [2**40, 0], np.int64),
        "node 'b_dq': its zero point is int64",
    ),
    "bias codes int8, zero point int32": (
        put("b_quantized", [1, 2], np.int8),
        "node 'b_dq' .DequantizeLinear.: x_zero_point has inconsistent type",
    ),
    "axis too large": (attribute("w_dq", "axis", 9), "'w_dq': axis 9 of a tensor with 4 axes"),
    "axis too small": (attribute("w_dq", "axis", -9), "'w_dq': axis -9 of a tensor with 4"),
    "axis no number": (attribute("w_dq", "axis", "x"), "w_dq"),
    "cycle": (read_from("x_q", 0, "y"), "'y' of node: name: x_q"),
    "node reads itself": (read_from("conv", 0, "c"), "'c' of node: name: conv"),
    "input is no value": (read_from("conv", 0, "nowhere"), "'nowhere' of node: name: conv"),
    "value made twice": (
        lambda graph: node_called(graph, "y_q").output.__setitem__(0, "xq"),
        "'xq' has been used .*'x_q', 'y_q'",
    ),
    "initializer made twice": (
        lambda graph: graph.initializer.append(graph.initializer[0]),
        "xs initializer name is not unique .*'x_q', 'x_dq'",
    ),
    "initializer and node": (
        lambda graph: graph.initializer.append(
            ir.to_proto(ir.tensor(np.ones(1, np.float32), name="xd"))
        ),
        "'xd' has been used .*'x_dq'",
    ),
    "two outputs": (lambda graph: node_called(graph, "x_q").output.append("more"), "x_q"),
    "no output": (lambda graph: node_called(graph, "x_q").output.pop(), "x_q"),
    "weight empty": (
        put("w_quantized", np.zeros((0, 3, 1, 1)), np.int8),
        "'w_dq': 2 scales for 0 channels",
    ),
    "weight without inputs": (
        put("w_quantized", np.zeros((2, 0, 1, 1)), np.int8),
        "'w_dq': its constant of shape .* is empty",
    ),
    "weight of rank 3": (put("w_quantized", np.zeros((2, 3, 1)), np.int8), "node 'conv'"),
    "weight of rank 1": (put("w_quantized", np.zeros(2), np.int8), "node 'conv'"),
    "weight of other channels": (
        put("w_quantized", np.zeros((2, 5, 1, 1)), np.int8),
        "node 'conv': its weight has shape .2, 5, 1, 1., but its input has 3 channels",
    ),
    "weight missing": (drop_inputs("conv", 1), r"conv.* has input size 1"),
    "weight of another kernel": (
        attribute("conv", "kernel_shape", [3, 3]),
        r"node 'conv': its weight has shape .*, but its kernel_shape is \(3, 3\)",
    ),
    "group": (attribute("conv", "group", 3), "node 'conv': its weight has shape"),
    "pads": (attribute("conv", "pads", [1, 1]), "node 'conv' .Conv.: Attribute pads"),
    "bias a matrix": (
        put("b_quantized", np.zeros((2, 1)), np.int32),
        r"node 'conv': its bias has shape \(2, 1\) for 2 output channels",
    ),
    "bias too long": (
        together(
            put("b_quantized", [1, 2, 3], np.int32),
            put("bs", [6e-4, 3e-4, 3e-4]),
            put("bz", [0, 0, 0], np.int32),
        ),
        "node 'b_dq': 3 scales for 2 channels along axis 0",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage, message = DAMAGED[name]
    path = write(tmp_path, {})
    proto = onnx.load(path)
    damage(proto.graph)
    onnx.save(proto, path)
    with caplog.at_level(logging.WARNING), pytest.raises(ModelError, match=message) as caught:
        QuantizedModel.from_qdq(path)
    assert "\n" not in str(caught.value)
    assert not caplog.messages, "a library underneath printed a traceback of its own"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"xd": "[x_dq] xd = DequantizeLinear(xq, xs, z)", "+z": "int8 z = {0}"},
            "node 'x_dq' .DequantizeLinear.: x_zero_point has inconsistent type",
        ),
        (
            {"xd": "[x_dq] xd = DequantizeLinear(xq, ys, xz)"},
            "node 'x_dq': its scale and zero point are not those with which 'xq' was quantized",
        ),
        (
            {"xd": "[x_dq] xd = DequantizeLinear(x, xs, xz)"},
            "node 'x_dq': DequantizeLinear of float values",
        ),
        (
            {"xq": "i = Cast<to = 7>(x) [x_q] xq = QuantizeLinear(i, xs, xz)"},
            "node 'x_q' .QuantizeLinear.: .* unsupported type: tensor.int64.",
        ),
        (
            {"xq": "s = ReduceMax<keepdims = 0>(x) [x_q] xq = QuantizeLinear(x, s, xz)"},
            "node 'x_q': its scale is computed, not a constant",
        ),
        (
            {"xq": "z2 = Cast<to = 2>(x) [x_q] xq = QuantizeLinear(x, xs, z2)"},
            "node 'x_q': its zero point is computed",
        ),
        (
            {
                "w": FLOAT_WEIGHT,
                "ws": "float[3] ws = {1,1,1}",
                "wz": "int8[3] wz = {0,0,0}",
                "wd": """[w_q] wq = QuantizeLinear<axis = 0>(w, ws, wz)
                         wd = DequantizeLinear<axis = 0>(wq, ws, wz)""",
            },
            "node 'w_q': 3 scales for 2 channels along axis 0",
        ),
        (
            {**FLOAT_BIAS, "b": "float[3] b = {0.3, -0.1, 0.2}"},
            r"node 'conv': its bias has shape \(3,\) for 2 output channels",
        ),
    ],
)
def test_nodes_that_do_not_go_together(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        QuantizedModel.from_qdq(write(tmp_path, changes))


@pytest.mark.parametrize(
    ("block", "scales", "message"),
    [
        (2, (2, 1, 1, 1), r"blocks of 2 need scales of shape \(2, 2, 1, 1\), got \(2, 1, 1, 1\)"),
        (3, (2, 3, 1, 1), r"blocks of 3 need scales of shape \(2, 1, 1, 1\), got \(2, 3, 1, 1\)"),
    ],
)
def test_blocks_that_do_not_fit(
    tmp_path: Path, block: int, scales: tuple[int, ...], message: str
) -> None:
    path = write(tmp_path, {}, opset=21)
    proto = onnx.load(path)
    put("ws", np.ones(scales))(proto.graph)
    put("wz", np.zeros(scales), np.int8)(proto.graph)
    attribute("w_dq", "axis", 1)(proto.graph)
    attribute("w_dq", "block_size", block)(proto.graph)
    onnx.save(proto, path)
    with pytest.raises(ModelError, match=f"node 'w_dq': {message}"):
        QuantizedModel.from_qdq(path)


def test_equal_node_names_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    proto = onnx.load(path)
    for node in proto.graph.node:
        node.name = "same"
    onnx.save(proto, path)
    assert not QuantizedModel.from_qdq(path).plan.kept_float
