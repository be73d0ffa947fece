"""Random products: bit-identical to onnxruntime and to Python integers, in both arithmetics."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from quantkit.numerics.arithmetic import ARITHMETICS
from tests.ops.case import Case
from tests.ops.checks import check_against_onnxruntime, run, unsaturated_share
from tests.ops.product_strategies import KINDS, products
from tests.ops.python_integers import product_codes, product_sums

SLOW_EXAMPLES = 400
MANY = [pytest.param(kind, id=f"{SLOW_EXAMPLES}-{kind}") for kind in KINDS]


def check(case: Case) -> None:
    """Default and strict kernels of both arithmetics equal the definition, and onnxruntime."""
    check_against_python_integers(case)
    check_against_onnxruntime(case, "onnxruntime", max_lsb=0, max_share=0.0)


def check_against_python_integers(case: Case) -> None:
    for arithmetic in ARITHMETICS:
        expected = product_codes(case, arithmetic)
        for strict_integer in (False, True):
            got = run(case, arithmetic, strict_integer=strict_integer)
            np.testing.assert_array_equal(got, expected)


def extremes(case: Case) -> set[str]:
    """Which of the extremes that rounding and carriers trip over the case reaches."""
    largest = max(abs(int(total)) for total in product_sums(case).reshape(-1))
    scales = [float(params.scale) for params in (case.inputs[0], case.outputs[0])]  # type: ignore[union-attr]
    found = {
        "beyond 2^24": largest > 2**24,
        "wraps": largest > 2**31,
        "scale below 1e-7": min(scales) < 1e-7,
        "scale above 1e3": max(scales) > 1e3,
        "unsaturated": unsaturated_share(product_codes(case, "onnxruntime")) > 0.2,
    }
    return {name for name, is_reached in found.items() if is_reached}


def check_many(kind: str, count: int) -> Counter[str]:
    reached: Counter[str] = Counter()

    @given(products(kind))
    @settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    def check_one(case: Case) -> None:
        check(case)
        reached.update(extremes(case))
        reached["cases"] += 1

    check_one()
    return reached


@pytest.mark.parametrize("kind", KINDS)
def test_random_products(kind: str) -> None:
    check_many(kind, 20)


# What onnxruntime has no integer kernel for.
OTHERS = [
    pytest.param("conv_transpose", False, id="conv_transpose"),
    *(pytest.param(kind, True, id=f"16-bit-{kind}") for kind in (*KINDS, "conv_transpose")),
]


@pytest.mark.parametrize(("kind", "is_wide"), OTHERS)
def test_random_products_without_a_kernel(kind: str, is_wide: bool) -> None:
    @given(products(kind, is_wide=is_wide))
    @settings(max_examples=40, deadline=None, suppress_health_check=[*HealthCheck])
    def check_one(case: Case) -> None:
        check_against_python_integers(case)

    check_one()


@pytest.mark.slow
@pytest.mark.parametrize("kind", MANY)
def test_many_random_products(kind: str) -> None:
    reached = check_many(kind, SLOW_EXAMPLES)
    assert reached["cases"] >= SLOW_EXAMPLES
    assert reached["unsaturated"] > SLOW_EXAMPLES // 4
    assert min(reached["scale below 1e-7"], reached["scale above 1e3"]) > SLOW_EXAMPLES // 40
    if kind != "activations":
        assert reached["beyond 2^24"] > SLOW_EXAMPLES // 40
    if kind in ("conv", "depthwise", "gemm"):
        assert reached["wraps"] > SLOW_EXAMPLES // 40
