"""Equal codes pass; a wrong kernel, a damaged output or nothing to compare does not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import quantkit
from quantkit.errors import NonFiniteRangeError, UnsupportedModelError
from quantkit.evaluation.verification import CodeDifference
from quantkit.numerics.affine import IntegerArray
from quantkit.ops.contract import OPS, Kernel, Lowering
from tests.reporting.networks import CLASSIFIER, TWO_OUTPUTS, WITH_ISLAND, samples, write


def sabotage(monkeypatch: pytest.MonkeyPatch, op_type: str, share: float) -> None:
    """The first ``share`` of the op's codes is off by one."""
    kind = type(OPS[op_type])
    lower = kind.lower

    def wrong(self: object, lowering: Lowering) -> Kernel:
        kernel = lower(self, lowering)  # type: ignore[arg-type]

        def off_by_one(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            (codes,) = kernel(inputs)
            flat = codes.reshape(-1).copy()
            flat[: int(share * flat.size)] ^= 1
            return (flat.reshape(codes.shape),)

        return off_by_one

    monkeypatch.setattr(kind, "lower", wrong)


@pytest.mark.parametrize("text", [CLASSIFIER, TWO_OUTPUTS])
@pytest.mark.parametrize("strict_integer", [False, True])
def test_equal_codes_pass(tmp_path: Path, text: str, strict_integer: bool) -> None:
    _, quantized = write(tmp_path, text)
    found = quantkit.verify(quantized, samples(4), strict_integer=strict_integer)
    assert found.passed
    assert found.samples == 4
    assert found.not_compared == ()
    assert found.largest_output_difference == 0.0
    for layer in found.layers:
        assert layer.isolated.total > 0
        assert layer.isolated.mismatches == layer.accumulated.mismatches == 0


def test_fixed_point_is_at_most_one_code_off(tmp_path: Path) -> None:
    _, quantized = write(tmp_path, CLASSIFIER)
    found = quantkit.verify(quantized, samples(16), arithmetic="fixed_point")
    assert (found.tolerance, found.passed) == (1, True)
    assert max(layer.isolated.largest for layer in found.layers) <= 1


@pytest.mark.parametrize(("op_type", "first"), [("Gemm", "last"), ("GlobalAveragePool", "pool")])
def test_one_wrong_code_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, op_type: str, first: str
) -> None:
    _, quantized = write(tmp_path, CLASSIFIER)
    sabotage(monkeypatch, op_type, share=0.15)
    found = quantkit.verify(quantized, samples(1))
    assert not found.passed
    assert found.first_failure is not None
    assert found.first_failure.node == first
    assert (found.first_failure.isolated.mismatches, found.first_failure.isolated.largest) == (1, 1)
    # Isolated: only the wrong layer itself differs. Accumulated: so may those behind it.
    others = [layer for layer in found.layers if layer.node != first]
    assert sum(layer.isolated.mismatches for layer in others) == 0


def test_a_wrong_clamped_convolution_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime shows the codes behind the Relu only."""
    _, quantized = write(tmp_path, CLASSIFIER)
    sabotage(monkeypatch, "Conv", share=1.0)
    found = quantkit.verify(quantized, samples(1))
    assert found.first_failure is not None
    assert found.first_failure.node.startswith("first")


def test_float_islands_are_listed_and_refused_when_strict(tmp_path: Path) -> None:
    _, quantized = write(tmp_path, WITH_ISLAND)
    found = quantkit.verify(quantized, samples(2))
    assert found.passed
    assert list(found.float_islands) == ["island"]
    assert [layer.node for layer in found.layers] == ["first", "second"]
    with pytest.raises(UnsupportedModelError, match="'island' stays float"):
        quantkit.verify(quantized, samples(2), strict_integer=True)


def test_nothing_to_compare_is_no_pass(tmp_path: Path) -> None:
    """A file with Q-DQ pairs, but with float weights: no node is integer."""
    _, quantized = write(tmp_path, WITH_ISLAND)
    model = ir.load(quantized)
    for node in tuple(model.graph):
        if node.op_type == "Conv":
            weight = node.inputs[1]
            assert weight is not None
            assert weight.shape is not None
            zeros = ir.tensor(np.zeros(weight.shape.numpy(), np.float32))
            value = ir.Value(name=f"{node.name}_float", const_value=zeros)
            model.graph.register_initializer(value)
            node.replace_input_with(1, value)
    ir.save(model, quantized)
    with pytest.raises(UnsupportedModelError, match=r"has no integer node to verify; .*'first'"):
        quantkit.verify(quantized, samples(2))


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
def test_nan_is_neither_pass_nor_score(tmp_path: Path) -> None:
    files = write(tmp_path, WITH_ISLAND.replace("y = Conv (e, w2)", "y = Log (e)"))
    with pytest.raises(NonFiniteRangeError, match=r"output 'y' holds NaN or infinity on 'array"):
        quantkit.verify(files[1], samples(2))
    with pytest.raises(NonFiniteRangeError, match=r"^float: output 'y' on 'array\[0\]'"):
        quantkit.report(*files, samples(2))


def test_sixteen_samples_unless_asked(tmp_path: Path) -> None:
    _, quantized = write(tmp_path, TWO_OUTPUTS)
    assert quantkit.verify(quantized, samples(40)).samples == 16
    assert quantkit.verify(quantized, samples(40), num_samples=20).samples == 20
    assert quantkit.verify(quantized, samples(3)).samples == 3


def test_classes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    assert quantkit.verify(write(tmp_path, CLASSIFIER)[1], samples(5)).same_class == 5
    assert quantkit.verify(write(tmp_path / "two", TWO_OUTPUTS)[1], samples(5)).same_class is None


def test_counts_of_differences() -> None:
    found = CodeDifference()
    oracle = np.array([0, 0, 10, 20, 255, 255], np.uint8)
    found.add(np.array([0, 3, 10, 22, 255, 254], np.uint8), oracle)
    assert (found.saturated, found.unsaturated, found.total) == (4, 2, 6)
    assert (found.saturated_mismatches, found.unsaturated_mismatches) == (2, 1)
    assert (found.mismatches, found.largest) == (3, 3)
    found.add(np.array([250], np.uint8), np.array([0], np.uint8))
    assert found.largest == 250
