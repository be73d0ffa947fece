"""A constant zero Pad in front of a Conv, in each of its spellings, and every reason not to."""

from collections.abc import Sequence

import numpy as np
import pytest

from quantkit.passes.prepare import prepare
from tests.models import network, normal
from tests.passes.checks import assert_prepared, notes_of, op_types, refusal

WEIGHTS = {"w": normal(4, 3, 3, 3)}
UNEVEN = [0, 0, 1, 2, 0, 0, 3, 0]


def pads(values: Sequence[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, np.int64)


@pytest.mark.parametrize("opset", [9, 11, 13, 18, 21])
def test_each_opset(opset: int) -> None:
    weights, line = {**WEIGHTS, "p": pads(UNEVEN)}, "d = Pad (x, p)"
    if opset < 11:
        weights, line = WEIGHTS, f"d = Pad <pads = {UNEVEN}> (x)"
    model = network(f"{line}\ny = Conv <pads = [1, 0, 0, 1]> (d, w)", weights, opset=opset)
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["Conv"]
    # Begin of each axis, then end of each: an exchanged order would give another shape here.
    assert prepared.program.nodes[0].integers("pads", ()) == (1 + 1, 2 + 0, 3 + 0, 0 + 1)


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-2, -1], [-1, 2]])
def test_named_axes(axes: list[int]) -> None:
    weights = {**WEIGHTS, "p": pads([1, 2, 3, 0]), "axes": pads(axes)}
    model = network("d = Pad (x, p, , axes)\ny = Conv (d, w)", weights, opset=18)
    assert op_types(assert_prepared(model)) == ["Conv"]


def test_named_channel_axis_is_refused() -> None:
    weights = {"w": normal(4, 5, 3, 3), "p": pads([1, 1]), "axes": pads([1])}
    model = network("d = Pad (x, p, , axes)\ny = Conv (d, w)", weights, opset=18)
    reason = refusal(assert_prepared(model), "fold_pad")
    assert reason == "pads the batch or the channel axis"


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_explicit_zero(zero: float) -> None:
    weights = {**WEIGHTS, "p": pads(UNEVEN), "zero": np.array(zero, np.float32)}
    model = network("d = Pad (x, p, zero)\ny = Conv (d, w)", weights)
    assert op_types(assert_prepared(model)) == ["Conv"]


@pytest.mark.parametrize(
    ("line", "amounts", "reason"),
    [
        ('Pad <mode = "reflect"> (x, p)', UNEVEN, "pads by reflect, a Conv pads with zeros"),
        ('Pad <mode = "edge"> (x, p)', UNEVEN, "pads by edge, a Conv pads with zeros"),
        ("Pad (x, p, one)", UNEVEN, "pads with another value than 0"),
        ("Pad (x, p)", [0, 0, -1, 0, 0, 0, 0, 2], "crops (a negative pad)"),
        ("Pad (x, p)", [1, 0, 0, 0, 0, 0, 0, 0], "pads the batch or the channel axis"),
        ("Pad (x, p)", [0, 0, 0, 0, 1, 0, 0, 0], "pads the batch or the channel axis"),
    ],
)
def test_refusals(line: str, amounts: list[int], reason: str) -> None:
    weights = {**WEIGHTS, "p": pads(amounts), "one": np.array(1, np.float32)}
    prepared = assert_prepared(network(f"d = {line}\ny = Conv (d, w)", weights))
    assert refusal(prepared, "fold_pad") == reason
    assert op_types(prepared) == ["Pad", "Conv"]


def test_computed_pads_are_refused() -> None:
    model = network(
        "d = Pad (x, p)\ny = Conv (d, w)", WEIGHTS, inputs="float[N,3,8,8] x, int64[8] p"
    )
    prepared = assert_prepared(model, feeds={"x": normal(2, 3, 8, 8), "p": pads(UNEVEN)})
    assert refusal(prepared, "fold_pad") == "its pads are computed"


def test_pads_a_caller_may_feed_are_refused() -> None:
    model = network("d = Pad (x, p)\ny = Conv (d, w)", {**WEIGHTS, "p": pads(UNEVEN)})
    model.graph.inputs.append(model.graph.initializers["p"])
    assert refusal(assert_prepared(model), "fold_pad") == "its pads are computed"


def test_every_reader_takes_its_share() -> None:
    model = network(
        "d = Pad (x, p)\ny = Conv (d, w)\nz = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (d, w)",
        {**WEIGHTS, "p": pads(UNEVEN)},
        outputs="float[N,C,H,W] y, float[N,D,K,L] z",
    )
    assert op_types(assert_prepared(model)) == ["Conv", "Conv"]


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        ("z = [pool] MaxPool <kernel_shape = [2, 2]> (d)", "is read by pool (MaxPool)"),
        ("z = Relu (d)", "(Relu), not by a Conv"),
    ],
)
def test_other_readers_are_refused(reader: str, reason: str) -> None:
    reader = reader.replace("z = [pool]", "[pool] z =")
    model = network(
        f"d = Pad (x, p)\ny = Conv (d, w)\n{reader}",
        {**WEIGHTS, "p": pads(UNEVEN)},
        outputs="float[N,C,H,W] y, float[N,D,K,L] z",
    )
    assert reason in refusal(assert_prepared(model), "fold_pad")


def test_pad_that_is_an_output_is_refused() -> None:
    model = network(
        "d = Pad (x, p)\ny = Conv (d, w)",
        {**WEIGHTS, "p": pads(UNEVEN)},
        outputs="float[N,C,H,W] y, float[N,D,K,L] d",
    )
    assert refusal(assert_prepared(model), "fold_pad") == "is a graph output"


def test_padded_weight_is_refused() -> None:
    model = network(
        "d = Pad (x, p)\n[conv] y = Conv (v, d)",
        {"v": normal(1, 3, 16, 16), "p": pads(UNEVEN)},
        inputs="float[2,3,4,4] x",
    )
    # onnxruntime's own fusion of Pad breaks this model, so it is not run.
    assert refusal(prepare(model), "fold_pad") == "is the weight of conv"


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_a_conv_that_pads_by_itself_is_refused(auto_pad: str) -> None:
    model = network(
        f'd = Pad (x, p)\n[conv] y = Conv <auto_pad = "{auto_pad}"> (d, w)',
        {**WEIGHTS, "p": pads(UNEVEN)},
    )
    reason = refusal(assert_prepared(model), "fold_pad")
    assert reason == f"conv pads by itself (auto_pad={auto_pad})"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('auto_pad = "VALID"', (1, 2, 3, 0)),
        ('auto_pad = "NOTSET", pads = [1, 1, 1, 1]', (2, 3, 4, 1)),
    ],
)
def test_auto_pad_that_adds_nothing(attributes: str, expected: tuple[int, ...]) -> None:
    model = network(
        f"d = Pad (x, p)\ny = Conv <{attributes}> (d, w)", {**WEIGHTS, "p": pads(UNEVEN)}
    )
    prepared = assert_prepared(model)
    assert prepared.program.nodes[0].integers("pads", ()) == expected


def test_pads_in_a_row() -> None:
    model = network(
        "c = Pad (x, p)\nd = Pad (c, p)\ny = Conv (d, w)", {**WEIGHTS, "p": pads(UNEVEN)}
    )
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["Conv"]
    assert [note.applied for note in notes_of(prepared, "fold_pad")] == [True, True]


@pytest.mark.parametrize(("size", "kernel"), [("12", (3,)), ("4,5,6", (2, 2, 2))])
def test_one_and_three_spatial_axes(size: str, kernel: tuple[int, ...]) -> None:
    axes = len(kernel)
    amounts = pads([0, 0, *range(1, axes + 1), 0, 0, *range(axes)])
    model = network(
        "d = Pad (x, p)\ny = Conv (d, w)",
        {"w": normal(4, 3, *kernel), "p": amounts},
        inputs=f"float[N,3,{size}] x",
        outputs=f"float[N,{','.join('ABCD'[: axes + 1])}] y",
    )
    assert op_types(assert_prepared(model)) == ["Conv"]
