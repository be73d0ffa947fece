"""Bounds, bits and multipliers against exact fractions."""

from fractions import Fraction

import pytest

from quantkit.quantized_model.model import weight_and_bias
from quantkit.quantized_model.multipliers import operand_params
from quantkit.reporting.layer_accumulators import layer_accumulator
from tests.small_networks import quantized_network


@pytest.mark.parametrize("name", ["mobile", "residual", "matmul", "two_activations", "softmax"])
def test_multipliers_are_the_quotients_of_the_scales(name: str) -> None:
    model = quantized_network(name)
    seen = 0
    for node in model.prepared.program.nodes:
        found = layer_accumulator(node, model)
        weight, _ = (
            weight_and_bias(node) if node.op_type in ("Conv", "Gemm", "MatMul") else ("", "")
        )
        assert (found is None) == (weight == "")
        if found is None:
            continue
        seen += 1
        s_x = Fraction(float(model.plan.params[node.inputs[0]].scale))
        s_y = Fraction(float(model.plan.params[node.outputs[0]].scale))
        s_w = [Fraction(float(s)) for s in operand_params(weight, model).scale.reshape(-1)]
        exact = min(s_w) * s_x / s_y, max(s_w) * s_x / s_y
        for want, real, mantissa, shift in zip(
            exact, found.multiplier, found.mantissa, found.shift, strict=True
        ):
            assert 2**30 <= mantissa < 2**31
            assert Fraction(real) == Fraction(mantissa, 1) / Fraction(2) ** shift
            assert abs(Fraction(real) - want) <= want / 2**30
        assert found.bound == model.accumulator_bounds[node.name]
        assert -(2 ** (found.bits - 1)) <= -found.bound
        assert found.bound < 2 ** (found.bits - 1)
        assert found.bound >= 2 ** (found.bits - 2)
    assert seen
