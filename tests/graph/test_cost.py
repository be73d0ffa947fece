"""Costs against numbers computed by hand."""

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from quantkit.graph.cost import ModelCost, model_cost
from quantkit.graph.model_io import load_model, program_of
from quantkit.graph.program import Array, AttributeValue, Dimension, Node, Program, TensorSpec
from quantkit.passes.prepare import prepare

FLOAT32 = np.dtype(np.float32)
Shape = tuple[Dimension, ...] | None


def node(name: str, op_type: str, inputs: str, output: str, **attributes: AttributeValue) -> Node:
    return Node(name, op_type, "", 17, tuple(inputs.split()), (output,), attributes)


def cost_of(
    nodes: list[Node],
    constants: Mapping[str, tuple[int, ...] | Array],
    shapes: Mapping[str, Shape],
    outputs: tuple[str, ...] = (),
    dtype: np.dtype[np.generic] = FLOAT32,
) -> ModelCost:
    """Cost of a graph whose input is "x" and whose outputs are the last node's, or those named."""
    specs = {name: TensorSpec(name, dtype, shape) for name, shape in shapes.items()}
    arrays = {
        name: np.zeros(value, np.float32) if isinstance(value, tuple) else value
        for name, value in constants.items()
    }
    names = outputs or nodes[-1].outputs
    return model_cost(
        Program(tuple(nodes), arrays, (specs["x"],), tuple(specs[n] for n in names), specs)
    )


@pytest.mark.parametrize(
    ("weight", "group", "x", "y", "macs"),
    [
        # |output| * C_in / group * |kernel|
        ((8, 3, 5), 1, (1, 3, 20), (1, 8, 16), 8 * 16 * 3 * 5),
        ((16, 3, 3, 3), 1, (1, 3, 32, 32), (1, 16, 16, 16), 16 * 16 * 16 * 3 * 9),
        ((16, 1, 3, 3), 16, (1, 16, 8, 8), (1, 16, 8, 8), 16 * 64 * 9),
        ((12, 2, 3, 3), 4, (1, 8, 8, 8), (1, 12, 6, 6), 12 * 36 * 2 * 9),
        ((4, 2, 3, 2, 1), 1, (2, 2, 5, 5, 5), (2, 4, 3, 4, 5), 2 * 4 * 60 * 2 * 6),
    ],
)
def test_conv(
    weight: tuple[int, ...], group: int, x: tuple[int, ...], y: tuple[int, ...], macs: int
) -> None:
    conv = node("conv", "Conv", "x w b", "y", group=group)
    cost = cost_of([conv], {"w": weight, "b": (weight[0],)}, {"x": x, "y": y})
    assert cost.nodes[0].macs == macs == cost.macs
    assert cost.nodes[0].parameters == math.prod(weight) + weight[0] == cost.parameters
    assert cost.nodes[0].output_bytes == 4 * math.prod(y)
    assert cost.nodes[0].output_shape == y
    assert cost.unknown == ()


def test_conv_transpose_counts_each_input_pixel() -> None:
    # 6 inputs, 4 outputs in 2 groups, 2 x 2 kernel: 6 * 5 * 5 inputs meet 2 * 4 weights each.
    up = node("up", "ConvTranspose", "x w", "y", group=2)
    cost = cost_of([up], {"w": (6, 2, 2, 2)}, {"x": (1, 6, 5, 5), "y": (1, 4, 10, 10)})
    assert cost.macs == 6 * 25 * 2 * 4 == 1200


@pytest.mark.parametrize(("trans_b", "weight"), [(0, (20, 7)), (1, (7, 20))])
def test_gemm(trans_b: int, weight: tuple[int, int]) -> None:
    gemm = node("fc", "Gemm", "x w b", "y", transB=trans_b)
    cost = cost_of([gemm], {"w": weight, "b": (7,)}, {"x": (3, 20), "y": (3, 7)})
    assert cost.macs == 3 * 7 * 20
    assert cost.parameters == 147


@pytest.mark.parametrize(
    ("a", "b", "y", "macs"),
    [
        ((5, 4), (4, 6), (5, 6), 120),
        ((2, 3, 5, 4), (2, 3, 4, 6), (2, 3, 5, 6), 720),
        ((4,), (4, 6), (6,), 24),
        ((5, 4), (4,), (5,), 20),
        ((4,), (4,), (), 4),
        # Only one operand's shape is known.
        ((5, 4), None, (5, 6), 120),
        (None, (4, 6), (5, 6), 120),
        (None, None, (5, 6), None),
    ],
)
def test_matmul_of_two_activations(a: Shape, b: Shape, y: Shape, macs: int | None) -> None:
    cost = cost_of([node("mm", "MatMul", "x b", "y")], {}, {"x": a, "b": b, "y": y})
    assert cost.nodes[0].macs == macs
    assert cost.unknown == (() if macs is not None else ("mm",))


def test_gemm_with_only_a_known() -> None:
    gemm = node("fc", "Gemm", "x b", "y", transA=1)
    assert cost_of([gemm], {}, {"x": (20, 3), "b": None, "y": (3, 7)}).macs == 3 * 7 * 20


@pytest.mark.parametrize(
    ("op_type", "inputs", "weight"),
    [("QLinearConv", "x s z w ws wz s z", (8, 3, 3, 3)), ("ConvInteger", "x w", (8, 3, 3, 3))],
)
def test_integer_forms(op_type: str, inputs: str, weight: tuple[int, ...]) -> None:
    constants = {"w": np.zeros(weight, np.int8), "s": np.float32(1), "z": np.uint8(0)}
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    shapes: dict[str, Shape] = {"x": (1, 3, 8, 8), "y": (1, 8, 6, 6)}
    cost = cost_of([node("q", op_type, inputs, "y")], arrays, shapes, dtype=np.dtype(np.uint8))
    assert cost.macs == 8 * 36 * 27
    assert cost.parameters == 216  # scales and zero points are no parameters
    assert cost.nodes[0].output_bytes == 8 * 36


def test_other_ops_cost_no_macs_and_settings_are_no_parameters() -> None:
    nodes = [
        node("clip", "Clip", "x low high", "a"),
        node("shape", "Reshape", "a to", "b"),
        node("bn", "BatchNormalization", "b c c c c", "d"),
    ]
    constants: dict[str, tuple[int, ...] | Array] = {
        "low": (), "high": (), "to": np.array([1, 4, 3]), "c": (4,)
    }  # fmt: skip
    shapes: dict[str, Shape] = {"x": (1, 12), "a": (1, 12), "b": (1, 4, 3), "d": (1, 4, 3)}
    cost = cost_of(nodes, constants, shapes)
    assert [entry.macs for entry in cost.nodes] == [0, 0, 0]
    assert [entry.parameters for entry in cost.nodes] == [0, 0, 4]


def test_a_shared_weight_counts_once_in_total() -> None:
    nodes = [node("a", "Gemm", "x w", "h"), node("b", "Gemm", "h w", "y")]
    cost = cost_of(nodes, {"w": (5, 5)}, {"x": (1, 5), "h": (1, 5), "y": (1, 5)})
    assert [entry.parameters for entry in cost.nodes] == [25, 25]
    assert cost.parameters == 25


@pytest.mark.parametrize("batch", ["batch", None, -1])
def test_a_dynamic_batch_counts_as_one(batch: Dimension) -> None:
    conv = node("conv", "Conv", "x w", "y")
    shapes: dict[str, Shape] = {"x": (batch, 3, 8, 8), "y": (batch, 4, 8, 8)}
    cost = cost_of([conv], {"w": (4, 3, 1, 1)}, shapes)
    assert cost.macs == 4 * 64 * 3
    assert cost.nodes[0].output_bytes == 4 * 4 * 64
    assert cost.nodes[0].output_shape == (batch, 4, 8, 8)


@pytest.mark.parametrize("height", ["height", None, -1])
def test_other_dynamic_dimensions_make_a_cost_unknown(height: Dimension) -> None:
    conv = node("conv", "Conv", "x w", "y")
    shapes: dict[str, Shape] = {"x": ("batch", 3, height, 8), "y": ("batch", 4, height, 8)}
    cost = cost_of([conv], {"w": (4, 3, 1, 1)}, shapes)
    assert cost.nodes[0].macs is None
    assert cost.nodes[0].output_bytes is None
    assert cost.unknown == ("conv",)
    assert cost.macs == 0
    assert cost.parameters == 12


def test_a_named_axis_is_not_the_batch_when_it_moves_to_the_front() -> None:
    nodes = [node("t", "Transpose", "x", "h"), node("mm", "MatMul", "h w", "y")]
    shapes: dict[str, Shape] = {"x": ("n", "time", 6), "h": ("time", 1, 6), "y": ("time", 1, 2)}
    assert cost_of(nodes, {"w": (6, 2)}, shapes).unknown == ("mm",)


def separable(between: tuple[str, ...], **depthwise: AttributeValue) -> list[Node]:
    nodes = [node("dw", "Conv", "x w1", "v0", **{"group": 16, **depthwise})]
    for position, op_type in enumerate(between):
        inputs = f"v{position}" + (" c c c c" if op_type == "BatchNormalization" else "")
        nodes.append(node(f"n{position}", op_type, inputs, f"v{position + 1}"))
    return [*nodes, node("pw", "Conv", f"v{len(between)} w2", "y")]


BLOCK_SHAPES: dict[str, Shape] = {
    "x": (1, 16, 10, 10),
    **{f"v{position}": (1, 16, 10, 10) for position in range(3)},
    "y": (1, 24, 10, 10),
}
BLOCK_CONSTANTS = {"w1": (16, 1, 3, 3), "w2": (24, 16, 1, 1), "c": (16,)}


@pytest.mark.parametrize("between", [(), ("Relu",), ("BatchNormalization", "Clip")])
def test_separable_block(between: tuple[str, ...]) -> None:
    cost = cost_of(separable(between), BLOCK_CONSTANTS, BLOCK_SHAPES)
    (block,) = cost.blocks
    assert (block.depthwise, block.pointwise) == ("dw", "pw")
    assert (block.output_channels, block.kernel) == (24, (3, 3))
    assert block.macs == 16 * 100 * 9 + 24 * 100 * 16 == 52_800
    assert block.standard_macs == 24 * 100 * 16 * 9 == 345_600
    # Howard et al. 2017, section 3.1.
    assert Fraction(block.macs, block.standard_macs) == Fraction(1, 24) + Fraction(1, 9)
    assert block.ratio == block.macs / block.standard_macs
    assert cost.saved_macs == block.saved_macs == 345_600 - 52_800
    assert cost.standard_macs == 345_600


def test_what_is_no_separable_block() -> None:
    def blocks(nodes: list[Node], outputs: tuple[str, ...] = (), **changed: tuple[int, ...]) -> int:
        constants = {**BLOCK_CONSTANTS, **changed}
        return len(cost_of(nodes, constants, BLOCK_SHAPES, outputs).blocks)

    assert blocks(separable(("Relu",))) == 1
    assert blocks(separable(("Sigmoid",))) == 0
    assert blocks(separable(()), w2=(24, 16, 3, 3)) == 0  # not pointwise
    assert blocks(separable(()), w1=(16, 1, 1, 1)) == 0  # a per-channel affine
    assert blocks(separable((), group=8), w1=(16, 2, 3, 3)) == 0  # grouped, not depthwise
    assert blocks(separable(("Relu",)), ("v0", "y")) == 0  # the middle is a graph output
    assert blocks([*separable(("Relu",)), node("tap", "Relu", "v0", "v2")]) == 0  # two readers
    assert blocks(separable(())[:1], ("v0",)) == 0  # nothing follows


def test_a_block_of_unknown_size_is_left_out() -> None:
    shapes = {**BLOCK_SHAPES, "y": (1, 24, None, 10)}
    assert cost_of(separable(()), BLOCK_CONSTANTS, shapes).blocks == ()


def test_mobilenet_v2_of_the_zoo(zoo: Path) -> None:
    path = next((zoo / "models").rglob("*mobilenet*v2*.onnx"))
    cost = prepared = model_cost(prepare(path).program)
    assert prepared.unknown == ()
    assert round(cost.macs / 1e6, 1) == 300.8
    # torchvision counts 3,504,872 with gamma and beta; folding leaves one bias per channel.
    assert cost.parameters == 3_487_816
    assert len(cost.blocks) == 17
    for block in cost.blocks:
        expected = Fraction(1, block.output_channels) + Fraction(1, math.prod(block.kernel))
        assert Fraction(block.macs, block.standard_macs) == expected


def test_unprepared_models_without_shapes_say_so(zoo: Path) -> None:
    path = next((zoo / "models").rglob("*mobilenet*v2*.onnx"))
    raw = program_of(load_model(path))
    cost = model_cost(raw)
    convolutions = [n for n in raw.nodes if n.op_type == "Conv"]
    known = [n for n in cost.nodes if n.op_type == "Conv" and n.macs is not None]
    unknown = [n for n in cost.nodes if n.op_type == "Conv" and n.name in cost.unknown]
    assert len(known) + len(unknown) == len(convolutions) == 52
