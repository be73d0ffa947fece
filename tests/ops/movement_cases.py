"""The cases of the ops that move, choose, resample or reduce values; ``cases`` merges them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array, AttributeValue
from tests.ops.case import Case, make_node, middle_params, random_codes, random_params

CODES_8: tuple[npt.DTypeLike, ...] = (np.uint8, np.int8)
CODES: tuple[npt.DTypeLike, ...] = (*CODES_8, np.int16, np.uint16)


@dataclass(frozen=True, eq=False)
class Variant:
    """Attributes and constants of one node.

    Attributes:
        name: For the test's identifier.
        attributes: Of the node.
        constants: The inputs after the first.
        shape: Of the first input.
        outputs: How many there are.
        version: The opset.
    """

    name: str
    attributes: dict[str, AttributeValue]
    constants: tuple[Array | None, ...] = ()
    shape: tuple[int, ...] = (2, 8, 6, 4)
    outputs: int = 1
    version: int = 21


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def reals(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


def moving_cases(
    op_type: str, variants: Sequence[Variant], dtypes: Sequence[npt.DTypeLike] = CODES
) -> list[Case]:
    """Outputs with the input's parameters, and once more with parameters of their own.

    16-bit codes need opset 21 in onnxruntime.
    """
    rng = np.random.default_rng(11)
    cases = []
    for dtype, variant in product(dtypes, variants):
        if np.dtype(dtype).itemsize > 1 and variant.version < 21:
            continue
        x, own = random_params(rng, dtype), random_params(rng, dtype)
        node = make_node(op_type, 1 + len(variant.constants), variant.attributes, variant.version)
        node = replace(node, outputs=tuple(f"output_{i}" for i in range(variant.outputs)))
        data = (random_codes(rng, variant.shape, dtype),)
        for label, y in (("", x), ("-own", own)):
            name = f"{np.dtype(dtype)}-{variant.name}{label}"
            outputs = (y,) * variant.outputs
            cases.append(Case(name, node, (x, *variant.constants), outputs, data, op_type))
    return cases


SLICES = [
    Variant("two-axes", {}, (ints(0, 1), ints(2, 5), ints(1, 2))),
    Variant("all-axes", {}, (ints(0, 1, 2, 1), ints(2, 7, 9, -1))),
    Variant("steps", {}, (ints(1, 0), ints(8, 6), ints(1, 2), ints(3, 2))),
    Variant("backwards", {}, (ints(-1, 4), ints(-99, 0), ints(1, -2), ints(-1, -2))),
    Variant("clamped", {}, (ints(-99, 2), ints(2**62, 99), ints(1, 2))),
    Variant("opset-13", {}, (ints(1), ints(3), ints(1)), version=13),
]
SPLITS = [
    Variant("sizes", {"axis": 1}, (ints(1, 5, 2),), outputs=3),
    Variant("equal", {"axis": -2, "num_outputs": 3}, outputs=3),
    Variant("uneven", {"axis": 1, "num_outputs": 3}, outputs=3),
    Variant("opset-13", {"axis": 1}, outputs=4, version=13),
    Variant("opset-11", {"axis": 1, "split": (3, 5)}, outputs=2, version=11),
]
GATHERS = [
    Variant("some", {"axis": 1}, (ints(0, 7, 2, 2),)),
    Variant("negative", {"axis": -1}, (ints(-1, 0, -3),)),
    Variant("scalar", {"axis": 1}, (np.array(3, np.int64),)),
    Variant("matrix", {"axis": 2}, (ints(0, 5, 1, 1, 4, 3).reshape(2, 3),)),
    Variant("int32", {}, (np.array([1, 0, 1], np.int32),)),
]


def resize_variant(
    name: str,
    mode: str,
    scales: Sequence[float] = (),
    sizes: Sequence[int] = (),
    shape: tuple[int, ...] = (2, 3, 6, 5),
    roi: Sequence[float] = (),
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Variant:
    constants: list[Array | None] = [reals(*roi) if roi else None]
    constants += [reals(*scales)] if scales else [None, ints(*sizes)]
    return Variant(name, {"mode": mode, **(attributes or {})}, tuple(constants), shape)


TRANSFORMATIONS = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "asymmetric",
    "align_corners",
)
NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def nearest_variants() -> list[Variant]:
    """Every mode once; ``test_resize`` compares many sizes."""
    variants = []
    for transformation, nearest_mode in product(
        (*TRANSFORMATIONS, "tf_half_pixel_for_nn"), NEAREST_MODES
    ):
        attributes: dict[str, AttributeValue] = {
            "coordinate_transformation_mode": transformation,
            "nearest_mode": nearest_mode,
        }
        name = f"{transformation}-{nearest_mode}"
        scales = (1, 1, 1.7, 0.6)
        variants.append(resize_variant(name, "nearest", scales, attributes=attributes))
    one = resize_variant("to-one", "nearest", (), (2, 3, 1, 1))
    crop: dict[str, AttributeValue] = {"coordinate_transformation_mode": "tf_crop_and_resize"}
    return [
        *variants,
        resize_variant("twice", "nearest", (1, 1, 2, 2)),
        resize_variant("sizes", "nearest", (), (2, 3, 9, 3)),
        one,
        resize_variant("axes", "nearest", (2.0, 0.5), attributes={"axes": (3, -2)}),
        resize_variant(
            "not-larger",
            "nearest",
            (),
            (9, 8),
            attributes={"axes": (2, 3), "keep_aspect_ratio_policy": "not_larger"},
        ),
        resize_variant(
            "not-smaller",
            "nearest",
            (),
            (9, 8),
            attributes={"axes": (2, 3), "keep_aspect_ratio_policy": "not_smaller"},
        ),
        resize_variant(
            "crop",
            "nearest",
            (),
            (2, 3, 9, 4),
            roi=(0, 0, 0.25, 0.5, 1, 1, 0.75, 1),
            attributes=crop,
        ),
    ]


def linear_variants() -> list[Variant]:
    variants = []
    for transformation in TRANSFORMATIONS:
        attributes: dict[str, AttributeValue] = {"coordinate_transformation_mode": transformation}
        for label, scales in (("up", (1, 1, 2, 3)), ("by-1.7", (1, 1, 1.7, 0.6))):
            variants.append(
                resize_variant(
                    f"linear-{transformation}-{label}", "linear", scales, attributes=attributes
                )
            )
        sizes = resize_variant(
            f"linear-{transformation}-sizes", "linear", (), (2, 3, 9, 3), attributes=attributes
        )
        variants.append(sizes)
    crop: dict[str, AttributeValue] = {"coordinate_transformation_mode": "tf_crop_and_resize"}
    return [
        *variants,
        resize_variant("linear-1d", "linear", (1, 1, 2.5), shape=(2, 3, 11)),
        resize_variant("linear-3d", "linear", (), (1, 2, 7, 3, 9), shape=(1, 2, 4, 5, 6)),
        resize_variant("linear-to-one", "linear", (), (5, 40, 1, 1), shape=(5, 40, 6, 5)),
        resize_variant(
            "linear-crop",
            "linear",
            (),
            (2, 3, 9, 4),
            roi=(0, 0, 0.25, 0.5, 1, 1, 0.75, 1),
            attributes=crop,
        ),
    ]


REDUCTIONS = [
    Variant("pixels", {"keepdims": 1}, (ints(2, 3),)),
    Variant("channels", {"keepdims": 0}, (ints(-3),)),
    Variant("all", {}, ()),
]


def arg_cases(op_type: str) -> list[Case]:
    rng = np.random.default_rng(12)
    variants: list[tuple[str, dict[str, AttributeValue]]] = [
        ("default", {}),
        ("last-axis", {"axis": -1, "keepdims": 0}),
        ("last-index", {"axis": 1, "select_last_index": 1}),
        ("last-index-flat", {"axis": 2, "select_last_index": 1, "keepdims": 0}),
    ]
    cases = []
    for dtype, (name, attributes) in product(CODES, variants):
        # Few distinct codes: most maxima are ties.
        data = (random_codes(rng, (3, 40, 5, 6), np.uint8) // 20).astype(dtype)
        x = random_params(rng, dtype)
        node = make_node(op_type, 1, attributes)
        cases.append(Case(f"{np.dtype(dtype)}-{name}", node, (x,), (), (data,), op_type))
    return cases


def mean_cases() -> list[Case]:
    rng = np.random.default_rng(13)
    variants = [
        *REDUCTIONS,
        Variant("opset-13", {"axes": (2, 3), "keepdims": 0}, version=13),
    ]
    cases = []
    for dtype, variant, ratio in product(CODES, variants, (1.0, 6.3)):
        if np.dtype(dtype).itemsize > 1 and variant.version < 21:
            continue
        scale = 0.03 if np.dtype(dtype).itemsize == 1 else 0.0002
        x, y = random_params(rng, dtype, scale), middle_params(scale / ratio, dtype)
        x = replace(x, zero_point=y.zero_point)
        node = make_node(
            "ReduceMean", 1 + len(variant.constants), variant.attributes, variant.version
        )
        data = (random_codes(rng, (3, 60, 7, 5), dtype),)
        name = f"{np.dtype(dtype)}-{variant.name}-{ratio}"
        cases.append(Case(name, node, (x, *variant.constants), (y,), data, "ReduceMean"))
    return cases


def layer_normalization_cases() -> list[Case]:
    rng = np.random.default_rng(14)
    cases = []
    for dtype, (axis, epsilon), has_bias in product(
        CODES, [(-1, 1e-5), (1, 1e-5), (2, 0.1)], (True, False)
    ):
        shape = (4, 5, 6, 32)
        is_narrow = np.dtype(dtype).itemsize == 1
        x = random_params(rng, dtype, 0.02 if is_narrow else 0.0001)
        y = middle_params(0.04 if is_narrow else 0.0002, dtype)
        if dtype == np.uint16:
            y = replace(y, zero_point=np.array(33001, np.int32))
        scale = rng.normal(1.0, 0.4, shape[axis:]).astype(np.float32)
        constants: tuple[Array, ...] = (scale,)
        if has_bias:
            constants += (rng.normal(0.0, 0.5, shape[axis:]).astype(np.float32),)
        node = make_node(
            "LayerNormalization", 1 + len(constants), {"axis": axis, "epsilon": epsilon}
        )
        data = (random_codes(rng, shape, dtype),)
        name = f"{np.dtype(dtype)}-axis{axis}-{has_bias}"
        cases.append(Case(name, node, (x, *constants), (y,), data, "LayerNormalization"))
    return cases


MOVEMENT_CASES: dict[str, Callable[[], list[Case]]] = {
    "Slice": lambda: moving_cases("Slice", SLICES),
    "Split": lambda: moving_cases("Split", SPLITS),
    "Gather": lambda: moving_cases("Gather", GATHERS),
    "Expand": lambda: moving_cases(
        "Expand",
        [
            Variant("batch", {}, (ints(5, 1, 6, 4),), shape=(6, 4)),
            Variant("both", {}, (ints(3, 1),), shape=(2, 1, 7)),
        ],
    ),
    "Tile": lambda: moving_cases("Tile", [Variant("tile", {}, (ints(2, 1, 3, 1),))]),
    "DepthToSpace": lambda: moving_cases(
        "DepthToSpace",
        [
            Variant(mode, {"blocksize": 2, "mode": mode}, shape=(2, 12, 3, 5))
            for mode in ("DCR", "CRD")
        ],
    ),
    "SpaceToDepth": lambda: moving_cases("SpaceToDepth", [Variant("blocks", {"blocksize": 2})]),
    "Resize": lambda: [
        *moving_cases("Resize", nearest_variants(), CODES_8),
        *moving_cases("Resize", nearest_variants()[:6], (np.int16, np.uint16)),
        *moving_cases("Resize", linear_variants()),
    ],
    "ArgMax": lambda: arg_cases("ArgMax"),
    "ArgMin": lambda: arg_cases("ArgMin"),
    "ReduceMax": lambda: moving_cases("ReduceMax", REDUCTIONS),
    "ReduceMin": lambda: moving_cases("ReduceMin", REDUCTIONS),
    "GlobalMaxPool": lambda: moving_cases("GlobalMaxPool", [Variant("pool", {})]),
    "ReduceMean": mean_cases,
    "LayerNormalization": layer_normalization_cases,
}
"""Per registered op."""
