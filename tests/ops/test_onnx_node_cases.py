"""ONNX's backend node cases through the integer kernels: every case passes or says why not."""

import sys
from collections import Counter

import pytest

from tests.ops.onnx_node_cases import NodeCase, OutOfScopeError, judge, node_cases

# Per op: how many cases pass, and how many are out of scope for the reason with that letter.
REASONS = {
    "a": "codes are float8, float4 or of fewer than 8 bits",
    "b": "the scales are blocked",
    "c": "the indices of the maxima are asked for",
    "d": "onnxruntime cannot load a quantized AveragePool with the attribute dilations",
    "e": "ceil_mode with count_include_pad divides differently in different runtimes",
    "f": "the interpolation is cubic; integer kernels do nearest and linear",
    "g": "an antialiasing filter is asked for",
    "h": "the region of interest reaches beyond the input, which asks for extrapolation",
    "i": "ONNX divides by the unrounded size, onnxruntime by the output's",
    "j": "no tensor of numbers",
    "k": "the extreme of no values has no code",
}
EXPECTED: dict[str, tuple[int, dict[str, int]]] = {
    "QuantizeLinear": (4, {"a": 8, "b": 1}),
    "DequantizeLinear": (4, {"a": 9, "b": 1}),
    "DynamicQuantizeLinear": (3, {}),
    "QLinearConv": (1, {}),
    "QLinearMatMul": (8, {}),
    "ConvInteger": (2, {}),
    "MatMulInteger": (1, {}),
    "MaxPool": (17, {"c": 2}),
    "AveragePool": (13, {"d": 6, "e": 1}),
    "GlobalAveragePool": (2, {}),
    "GlobalMaxPool": (2, {}),
    "Reshape": (10, {}),
    "Transpose": (7, {}),
    "Slice": (8, {}),
    "Split": (16, {}),
    "Gather": (4, {}),
    "Squeeze": (2, {}),
    "Unsqueeze": (7, {}),
    "Flatten": (9, {}),
    "Concat": (12, {}),
    "Where": (2, {}),
    "Expand": (2, {}),
    "Tile": (2, {}),
    "Pad": (6, {}),
    "DepthToSpace": (2, {}),
    "SpaceToDepth": (4, {}),
    "Resize": (24, {"f": 11, "g": 2, "h": 1, "i": 1}),
    "Identity": (3, {"j": 2}),
    "ArgMax": (16, {}),
    "ArgMin": (16, {}),
    "ReduceMean": (8, {}),
    "ReduceMax": (9, {"k": 2}),
    "ReduceMin": (9, {"k": 1}),
    "LayerNormalization": (19, {}),
}
# The op itself has no integer kernel; most would only move codes, and stay float.
NO_KERNEL = "no integer kernel: "
COMPUTED = NO_KERNEL + "its indices or masks are mostly computed, not constants"
WITHOUT_OP = {
    "Trilu": (18, NO_KERNEL + "the triangle that is cut off becomes 0, in masks of attention"),
    "ScatterND": (7, COMPUTED),
    "ScatterElements": (7, COMPUTED),
    "Scatter": (2, "replaced by ScatterElements in opset 11; models are read at opset 11 or later"),
    "CenterCropPad": (6, NO_KERNEL + "a Slice and a Pad in one, of sizes that are inputs"),
    "Compress": (5, NO_KERNEL + "the output's size depends on the data"),
    "GatherElements": (3, COMPUTED),
    "GatherND": (3, COMPUTED),
    "ReverseSequence": (3, NO_KERNEL + "the lengths of the sequences are computed"),
    "MaxUnpool": (2, NO_KERNEL + "it needs the indices of a MaxPool, which keep that float"),
    "LpPool": (8, "no integer kernel: the root of a sum of powers is no affine function of codes"),
    "Upsample": (1, "replaced by Resize in opset 10; models are read at opset 11 or later"),
}


def outcome(case: NodeCase) -> str:
    try:
        judge(case)
    except OutOfScopeError as reason:
        return str(reason)
    except AssertionError as error:
        raise AssertionError(f"{case.node.op_type} {case.name}: {error}") from error
    return "passed"


@pytest.mark.slow
def test_every_case_passes_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    totals: Counter[str] = Counter()
    for op_type, (passed, others) in EXPECTED.items():
        counts = Counter(outcome(case) for case in node_cases()[op_type])
        named = {REASONS[letter]: number for letter, number in others.items()}
        assert dict(counts) == {"passed": passed, **named}, op_type
        totals += counts
    for op_type, (number, reason) in WITHOUT_OP.items():
        assert len(node_cases()[op_type]) == number
        totals[f"{op_type}: {reason}"] += number
    passed = totals.pop("passed")
    lines = [f"\nONNX node cases: {passed} passed, {totals.total()} out of scope:"]
    lines += [f"  {number:3} {reason}" for reason, number in totals.most_common()]
    with capsys.disabled():
        sys.stdout.write("\n".join(lines) + "\n")
    assert (passed, totals.total()) == (254, 113)


@pytest.mark.slow
def test_a_wrong_result_is_seen() -> None:
    case = next(case for case in node_cases()["Slice"] if case.name == "slice_neg_steps")
    moved = NodeCase(case.name, case.node, case.inputs, (case.outputs[0][::-1],))
    with pytest.raises(AssertionError):
        judge(moved)
