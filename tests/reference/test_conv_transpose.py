"""The transposed convolution: the gradient of a convolution, and what ONNX says of its sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantkit.errors import ShapeMismatchError
from quantkit.reference.conv import conv, conv_backward
from quantkit.reference.conv_transpose import conv_transpose


@given(
    st.sampled_from([1, 2, 3]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(1, 2),
    st.integers(0, 2**32 - 1),
)
def test_it_is_the_gradient_of_a_convolution(
    rank: int, kernel: int, stride: int, dilation: int, pad: int, group: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    strides, dilations, pads = [stride] * rank, [dilation] * rank, [pad, 0] * rank
    extent = (kernel - 1) * dilation + 1
    size = extent + int(rng.integers(0, 4))
    image = rng.integers(-9, 10, (2, 2 * group, *[size] * rank)).astype(np.float64)
    weight = rng.integers(-9, 10, (3 * group, 2, *[kernel] * rank)).astype(np.float64)
    y = conv(image, weight, strides=strides, pads=pads, dilations=dilations, group=group)
    grad = rng.integers(-9, 10, y.shape).astype(np.float64)
    expected, _, _ = conv_backward(
        grad, image, weight, strides=strides, pads=pads, dilations=dilations, group=group
    )
    # What no window reads at the end of an axis gets no gradient, but is there.
    unread = [
        size + begin + end - (count - 1) * stride - extent
        for count, begin, end in zip(y.shape[2:], pads[:rank], pads[rank:], strict=True)
    ]
    got = conv_transpose(
        grad,
        weight,
        strides=strides,
        pads=pads,
        dilations=dilations,
        output_padding=unread,
        group=group,
    )
    np.testing.assert_array_equal(got, expected)


def test_a_bias_is_added_everywhere() -> None:
    x, weight = np.zeros((1, 2, 3), np.float32), np.ones((2, 2, 2), np.float32)
    y = conv_transpose(x, weight, np.array([1.5, -2.0], np.float32), strides=[3])
    np.testing.assert_array_equal(y, [[[1.5] * 8, [-2.0] * 8]])
    assert y.dtype == np.float32


@pytest.mark.parametrize(
    ("weight_shape", "options", "message"),
    [
        ((3, 1, 2), {}, "first of size 2"),
        ((2, 1, 2), {"group": 3}, "group 3"),
        ((2, 1, 2), {"strides": [0]}, "strides must be 1 integers >= 1"),
        ((2, 1, 2), {"output_padding": [1, 1]}, "output_padding must be 1 integers"),
        ((2, 1, 2), {"pads": [9, 9]}, "nothing is left"),
    ],
)
def test_what_does_not_fit_is_refused(
    weight_shape: tuple[int, ...], options: dict[str, object], message: str
) -> None:
    x, weight = np.zeros((1, 2, 3), np.float32), np.zeros(weight_shape, np.float32)
    with pytest.raises(ShapeMismatchError, match=message):
        conv_transpose(x, weight, **options)  # type: ignore[arg-type]
