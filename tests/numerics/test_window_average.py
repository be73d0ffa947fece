"""Window averages: the integer form equals the float32 form."""

import numpy as np
import pytest

from quantkit.numerics.affine import per_tensor
from quantkit.numerics.onnxruntime_arithmetic import OnnxruntimeArithmetic


@pytest.mark.parametrize("code", [0, 255])
def test_windows_of_one_extreme_code(code: int) -> None:
    rng = np.random.default_rng(code)
    for _ in range(100):
        count = int(rng.choice([4, 6, 9, 12, 16, 49]))
        x = per_tensor(10 ** rng.uniform(-3, 1), int(rng.integers(0, 256)), np.uint8)
        y = per_tensor(float(x.scale) * rng.uniform(1, 3), int(rng.integers(0, 256)), np.uint8)
        taps = [np.full(1, code, np.uint8)] * count
        fast, strict = (
            OnnxruntimeArithmetic().window_average(x, y, [count], strict_integer=strict)(
                taps, np.array([count])
            )
            for strict in (False, True)
        )
        np.testing.assert_array_equal(strict, fast)
