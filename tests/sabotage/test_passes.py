"""Wrong folds must be rejected by the very check that the real passes are held to."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx.shape_inference import InferenceError

from quantkit.graph.program import Array
from quantkit.passes import fold_batch_norm as folding
from quantkit.passes import fold_pad as padding
from tests.models import batch_norm_weights, network, normal
from tests.passes.checks import assert_prepared, op_types

BN = "y = BatchNormalization <epsilon = 0.001> (c, gamma, beta, mean, variance)"
Wrong = Callable[[pytest.MonkeyPatch], None]


def conv() -> ir.Model:
    weights = {"w": normal(4, 3, 3, 3), "b": normal(4), **batch_norm_weights(4)}
    return network(f"c = Conv (x, w, b)\n{BN}", weights)


def conv_transpose() -> ir.Model:
    weights = {"w": normal(4, 2, 2, 2), **batch_norm_weights(4)}
    return network(
        f"c = ConvTranspose <group = 2> (x, w)\n{BN}", weights, inputs="float[N,4,8,8] x"
    )


def gemm() -> ir.Model:
    weights = {"w": normal(4, 4), "b": normal(4), **batch_norm_weights(4)}
    return network(
        f"c = Gemm <transB = 1, beta = 2.0> (x, w, b)\n{BN}",
        weights,
        inputs="float[N,4] x",
        outputs="float[N,4] y",
    )


def pad() -> ir.Model:
    weights = {"w": normal(4, 3, 3, 3), "p": np.array([0, 0, 2, 0, 0, 0, 1, 1])}
    return network("d = Pad (x, p)\ny = Conv (d, w)", weights)


def ignore_epsilon(patch: pytest.MonkeyPatch) -> None:
    right = folding.batch_norm_affine

    def wrong(node: ir.Node) -> tuple[folding.Affine | None, str | None]:
        node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.0)
        return right(node)

    patch.setattr(folding, "batch_norm_affine", wrong)


def use_default_epsilon(patch: pytest.MonkeyPatch) -> None:
    right = folding.batch_norm_affine

    def wrong(node: ir.Node) -> tuple[folding.Affine | None, str | None]:
        del node.attributes["epsilon"]
        return right(node)

    patch.setattr(folding, "batch_norm_affine", wrong)


def swap_group_axis(patch: pytest.MonkeyPatch) -> None:
    """The factor runs over the groups where it should run within each."""

    def wrong(
        node: ir.Node, weight: folding.Float64Array, bias: Array | None, affine: folding.Affine
    ) -> tuple[folding.Float64Array, folding.Float64Array]:
        channels_in, per_group, *kernel = weight.shape
        group = affine.factor.size // per_group
        grouped = weight.reshape(group, channels_in // group, per_group, *kernel)
        factor = affine.factor.reshape(per_group, group).T.reshape(group, 1, per_group, 1, 1)
        return (grouped * factor).reshape(weight.shape), affine.offset

    patch.setitem(folding._FOLDERS, "ConvTranspose", wrong)


def forget_old_bias(patch: pytest.MonkeyPatch) -> None:
    """The old bias is added without the factor."""

    def wrong(
        node: ir.Node, weight: folding.Float64Array, bias: Array | None, affine: folding.Affine
    ) -> tuple[folding.Float64Array, folding.Float64Array]:
        assert bias is not None
        factor = affine.factor.reshape(-1, *[1] * (weight.ndim - 1))
        return weight * factor, bias + affine.offset

    patch.setitem(folding._FOLDERS, "Conv", wrong)


def scale_the_wrong_gemm_axis(patch: pytest.MonkeyPatch) -> None:
    right = folding._FOLDERS["Gemm"]

    def wrong(
        node: ir.Node, weight: folding.Float64Array, bias: Array | None, affine: folding.Affine
    ) -> tuple[folding.Float64Array, folding.Float64Array] | str:
        result = right(node, weight, bias, affine)
        assert not isinstance(result, str)
        return weight * affine.factor[None, :], result[1]

    patch.setitem(folding._FOLDERS, "Gemm", wrong)


def wrong_pad_order(patch: pytest.MonkeyPatch) -> None:
    """Begin and end of each axis side by side, as other frameworks have it."""
    right = padding._spatial_pads

    def wrong(node: ir.Node) -> tuple[list[int], str | None]:
        amounts, reason = right(node)
        return np.array(amounts).reshape(2, -1).T.reshape(-1).tolist(), reason

    patch.setattr(padding, "_spatial_pads", wrong)


def swap_begin_and_end(patch: pytest.MonkeyPatch) -> None:
    """The output keeps its shape: only its values tell."""
    right = padding._spatial_pads

    def wrong(node: ir.Node) -> tuple[list[int], str | None]:
        amounts, reason = right(node)
        return amounts[len(amounts) // 2 :] + amounts[: len(amounts) // 2], reason

    patch.setattr(padding, "_spatial_pads", wrong)


@pytest.mark.parametrize(
    ("make", "sabotage", "op_type"),
    [
        (conv, ignore_epsilon, "Conv"),
        (conv, use_default_epsilon, "Conv"),
        (conv_transpose, swap_group_axis, "ConvTranspose"),
        (conv, forget_old_bias, "Conv"),
        (gemm, scale_the_wrong_gemm_axis, "Gemm"),
        (pad, wrong_pad_order, "Conv"),
        (pad, swap_begin_and_end, "Conv"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_wrong_folds_are_rejected(
    make: Callable[[], ir.Model], sabotage: Wrong, op_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert op_types(assert_prepared(make())) == [op_type]
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, InferenceError), match=r"apart|differ in dimension"):
        _ = assert_prepared(make())
