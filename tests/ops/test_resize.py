"""Resize: nearest against onnxruntime over many sizes, linear against exact rationals."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from quantkit.graph.program import AttributeValue, Node
from quantkit.numerics.affine import IntegerArray, QuantParams, per_tensor
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import Lowering
from tests.ops.case import make_node, random_codes
from tests.ops.checks import lower
from tests.ops.movement_cases import NEAREST_MODES, TRANSFORMATIONS, ints, reals

SCALES = (0.31, 0.5, 0.6, 2 / 3, 0.99, 1.0, 1.1, 4 / 3, 1.5, 1.7, 2.0, 3.3, 7.0)


def codes_of(
    node: Node, codes: IntegerArray, x: QuantParams, *, scales: object = None, sizes: object = None
) -> IntegerArray:
    operands = (x, None, None if scales is None else np.asarray(scales, np.float32))
    inputs = operands if sizes is None else (*operands, np.asarray(sizes, np.int64))
    return lower(Lowering(node, inputs, (x,), ARITHMETICS["onnxruntime"]))([codes])[0]


@pytest.mark.parametrize("nearest_mode", NEAREST_MODES)
@pytest.mark.parametrize("transformation", [*TRANSFORMATIONS, "tf_half_pixel_for_nn"])
def test_nearest_equals_onnxruntime_for_many_sizes(transformation: str, nearest_mode: str) -> None:
    attributes: dict[str, AttributeValue] = {
        "mode": "nearest",
        "coordinate_transformation_mode": transformation,
        "nearest_mode": nearest_mode,
    }
    header = '<ir_version: 9, opset_import: ["": 19]>'
    options = ", ".join(f'{name} = "{value}"' for name, value in attributes.items())
    x = per_tensor(0.02, 7, np.uint8)
    for by_scale, operands in ((True, "x, none, scales"), (False, "x, none, none, sizes")):
        extra = "float[1] scales" if by_scale else "int64[1] sizes"
        none = "" if by_scale else "none = Constant<value = float[0] {}>()"
        body = f"{{ {none} y = Resize<{options}>({operands if not by_scale else 'x, , scales'}) }}"
        model = ir.from_onnx_text(f"{header}\nresize (uint8[L] x, {extra}) => (uint8[M] y) {body}")
        session = onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        node = make_node("Resize", 3 if by_scale else 4, attributes)
        for size in (1, 2, 3, 5, 16, 37, 100):
            codes = np.arange(size, dtype=np.uint8)
            for scale in SCALES:
                resized = max(1, int(np.float32(scale) * np.float32(size)))
                if by_scale and resized > int(np.float32(scale) * np.float32(size)):
                    continue
                feed = {"scales": reals(scale)} if by_scale else {"sizes": ints(resized)}
                (expected,) = session.run(None, {"x": codes, **feed})
                np.testing.assert_array_equal(
                    codes_of(node, codes, x, **feed), expected, f"{size} by {scale}"
                )


COORDINATES: dict[str, Callable[[int, int, int, Fraction], Fraction]] = {
    "half_pixel": lambda i, size, resized, scale: (i + Fraction(1, 2)) / scale - Fraction(1, 2),
    "pytorch_half_pixel": lambda i, size, resized, scale: (
        (i + Fraction(1, 2)) / scale - Fraction(1, 2) if resized > 1 else Fraction(0)
    ),
    "asymmetric": lambda i, size, resized, scale: i / scale,
    "align_corners": lambda i, size, resized, scale: (
        Fraction(i * (size - 1), resized - 1) if resized > 1 else Fraction(0)
    ),
    "half_pixel_symmetric": lambda i, size, resized, scale: (
        Fraction(size, 2) * (1 - resized / (scale * size))
        + (i + Fraction(1, 2)) / scale
        - Fraction(1, 2)
    ),
}


def exact_linear(
    codes: IntegerArray, x: QuantParams, resized: tuple[int, ...], transformation: str
) -> IntegerArray:
    """``z + rint(interpolation of q - z)``, one output at a time, in fractions."""
    out = np.empty(resized, codes.dtype)
    zero_point = int(x.zero_point)
    for index in np.ndindex(resized):
        total = Fraction(0)
        positions = []
        for i, size, length in zip(index, codes.shape, resized, strict=True):
            exact = COORDINATES[transformation](i, size, length, Fraction(length, size))
            positions.append(min(max(exact, Fraction(0)), Fraction(size - 1)))
        for corner in product((0, 1), repeat=len(resized)):
            weight, place = Fraction(1), []
            for side, position, size in zip(corner, positions, codes.shape, strict=True):
                low = math.floor(position)
                weight *= position - low if side else 1 - (position - low)
                place.append(min(low + side, size - 1))
            total += weight * (int(codes[tuple(place)]) - zero_point)
        out[index] = zero_point + round(total)
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16])
@pytest.mark.parametrize("transformation", sorted(COORDINATES))
def test_linear_equals_exact_rationals(transformation: str, dtype: type[np.integer]) -> None:
    rng = np.random.default_rng(3)
    for shape, resized in [
        ((7,), (23,)),
        ((5,), (2,)),
        ((6, 5), (12, 10)),
        ((6, 5), (1, 9)),
        ((9, 4), (3, 3)),
        ((3, 4, 2), (5, 8, 7)),
    ]:
        codes = random_codes(rng, shape, dtype)
        x = per_tensor(0.01, int(rng.integers(0, 100)), dtype)
        attributes: dict[str, AttributeValue] = {
            "mode": "linear",
            "coordinate_transformation_mode": transformation,
        }
        got = codes_of(make_node("Resize", 4, attributes), codes, x, sizes=resized)
        np.testing.assert_array_equal(got, exact_linear(codes, x, resized, transformation))


def test_odd_scales_are_within_one_code_of_exact_rationals() -> None:
    rng = np.random.default_rng(4)
    codes = random_codes(rng, (40, 30), np.uint16)
    x = per_tensor(0.01, 1234, np.uint16)
    scale = np.float32(1.7)
    node = make_node("Resize", 3, {"mode": "linear"})
    got = codes_of(node, codes, x, scales=(scale, scale)).astype(np.int64)
    assert got.shape == (68, 51)
    position = (np.arange(68) + 0.5) / float(scale) - 0.5
    rows = np.stack([np.interp(position, np.arange(40), column) for column in codes.T], axis=1)
    position = (np.arange(51) + 0.5) / float(scale) - 0.5
    expected = np.stack([np.interp(position, np.arange(30), row) for row in rows])
    assert np.abs(got - expected).max() <= 0.51
