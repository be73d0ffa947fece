"""The cases of every op must have been seen red: each wrong kernel is rejected by one of them.

The tolerances are those of ``tests/ops/test_conformance``.
"""

import pytest

from quantkit.graph.program import Array
from quantkit.numerics.affine import QuantParams
from tests.ops.case import Case
from tests.ops.cases import CASES
from tests.ops.checks import Lower, check_against_onnxruntime, lower, unsaturated_share
from tests.ops.checks import onnxruntime_codes as codes_of
from tests.ops.test_conformance import ISLAND_SHARE, USUAL_SHARE, is_island, is_moved
from tests.sabotage.wrong_kernels import (
    half_away_from_zero,
    shifted,
    swapped_operands,
    transposed_taps,
    with_attributes,
    with_constant,
    without_bias,
)


def rejects(case: Case, wrong: Lower) -> bool:
    """Whether the conformance test of this case fails."""
    is_close = is_island(case) and not is_moved(case)
    share = ISLAND_SHARE.get(case.node.op_type, USUAL_SHARE) if is_close else 0.0
    try:
        check_against_onnxruntime(
            case, "onnxruntime", lower=wrong, max_lsb=1 if is_close else 0, max_share=share
        )
    except AssertionError:
        return True
    return False


def some_cases(op_type: str, count: int = 6) -> list[Case]:
    """Cases of 8 bits, spread over all there are."""
    cases = [
        case
        for case in CASES[op_type]()
        if all(x.dtype.itemsize == 1 for x in case.inputs if isinstance(x, QuantParams))
    ]
    return cases[:: max(1, len(cases) // count)]


@pytest.mark.parametrize("op_type", sorted(CASES))
def test_codes_off_by_one_are_rejected(op_type: str) -> None:
    cases = some_cases(op_type, 3)
    usual = max(cases, key=lambda case: unsaturated_share(codes_of(case)))
    assert not rejects(usual, lower)
    assert rejects(usual, shifted(1))
    assert rejects(usual, shifted(-1))


def reversed_order(constant: Array) -> Array:
    return constant[::-1].copy()


def moved_on(constant: Array) -> Array:
    return constant + 1


WRONG: list[tuple[str, str, Lower]] = [
    *((op_type, "swapped", swapped_operands()) for op_type in ("Sub", "Div", "PRelu")),
    *((op_type, "swapped", swapped_operands()) for op_type in ("Add", "Concat", "Where")),
    *(
        (op_type, "half-away", half_away_from_zero())
        for op_type in ("Add", "Mul", "Concat", "Where", "AveragePool", "GlobalAveragePool")
    ),
    ("Softmax", "half-away", half_away_from_zero()),
    *((op_type, "axis", with_attributes(axis=1)) for op_type in ("ArgMax", "ArgMin", "Gather")),
    ("Softmax", "axis", with_attributes(axis=0)),
    ("Concat", "axis", with_attributes(axis=0)),
    ("LayerNormalization", "axis", with_attributes(axis=2)),
    ("LayerNormalization", "epsilon", with_attributes(epsilon=1.0)),
    ("LayerNormalization", "no-bias", without_bias()),
    ("ArgMax", "last-of-ties", with_attributes(select_last_index=1)),
    ("ArgMin", "last-of-ties", with_attributes(select_last_index=1)),
    ("Resize", "ceil", with_attributes(nearest_mode="ceil")),
    ("Resize", "asymmetric", with_attributes(coordinate_transformation_mode="asymmetric")),
    ("DepthToSpace", "mode", with_attributes(mode="CRD")),
    ("SpaceToDepth", "mode", with_attributes(mode="CRD")),
    ("ConvTranspose", "taps", transposed_taps()),
    ("ConvTranspose", "pads", with_attributes(pads=(0, 0, 0, 0))),
    ("MaxPool", "strides", with_attributes(strides=(1, 1))),
    ("AveragePool", "include-pad", with_attributes(count_include_pad=1)),
    ("LeakyRelu", "alpha", with_attributes(alpha=0.02)),
    ("Slice", "start", with_constant(1, moved_on)),
    ("Gather", "order", with_constant(1, reversed_order)),
    ("Transpose", "order", with_attributes(perm=(0, 1, 3, 2))),
]
TAKES_FOUR_AXES = {"ConvTranspose", "Transpose"}


@pytest.mark.parametrize(
    ("op_type", "wrong"), [pytest.param(op, wrong, id=f"{op}-{name}") for op, name, wrong in WRONG]
)
def test_a_wrong_kernel_is_rejected(op_type: str, wrong: Lower) -> None:
    rejected = 0
    for case in some_cases(op_type, 20):
        if op_type in TAKES_FOUR_AXES and case.data[0].ndim != 4:
            continue
        if wrong.__qualname__.startswith("swapped") and len(case.data) < 2:
            continue
        try:
            rejected += rejects(case, wrong)
        except (IndexError, ValueError):
            # The wrong attribute does not fit this case's shape.
            continue
    assert rejected > 0
