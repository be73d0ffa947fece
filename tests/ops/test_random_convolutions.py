"""Random geometries against onnxruntime's QLinearConv, bit for bit."""

import numpy as np
import pytest

from tests.ops.case import Case
from tests.ops.checks import check_against_onnxruntime
from tests.ops.product_cases import conv_case


def random_conv(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    kernel = tuple(int(k) for k in rng.integers(1, 5, rank))
    dilations = tuple(int(d) for d in rng.choice([1, 1, 2], rank))
    strides = tuple(int(s) for s in rng.integers(1, 4, rank))
    pads = tuple(int(p) for p in rng.integers(0, 3, 2 * rank))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    spatial = tuple(int(rng.integers(e, e + 12)) for e in extents)
    kind = rng.choice(["dense", "grouped", "depthwise"])
    group = 1 if kind == "dense" else int(rng.integers(2, 20))
    channels = group * (1 if kind == "depthwise" else int(rng.integers(1, 30)))
    outputs = group * (1 if kind == "depthwise" else int(rng.integers(1, 9)))
    return conv_case(
        rng,
        f"random-{seed}",
        (int(rng.integers(1, 3)), channels, *spatial),
        (outputs, channels // group, *kernel),
        x_dtype=np.dtype(rng.choice(["uint8", "uint8", "int8"])),
        has_bias=bool(rng.integers(0, 2)),
        axis=0 if rng.random() < 0.8 else None,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
    )


def check(seed: int) -> None:
    case = random_conv(seed)
    for strict_integer in (False, True):
        check_against_onnxruntime(
            case, "onnxruntime", strict_integer=strict_integer, max_lsb=0, max_share=0.0
        )
    # Tiny pictures repeat their border's codes: a share of one case says little here.
    check_against_onnxruntime(case, "fixed_point", max_lsb=1, max_share=1.0)


@pytest.mark.parametrize("seed", range(60))
def test_random_convolutions(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 2500))
def test_many_random_convolutions(seed: int) -> None:
    check(seed)
