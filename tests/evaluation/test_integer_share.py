"""The share of multiply-accumulates in integers, as planned and as onnxruntime does it."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import quantkit
from quantkit.evaluation.integer_share import (
    int8_mac_percent,
    measured_mac_percent,
    planned_mac_percent,
)
from tests.reporting.networks import CLASSIFIER, write

# Two Q/DQ pairs in a row: onnxruntime merges them into one of a third scale, unless it has to show
# the codes in between.
CHAIN = """<ir_version: 8, opset_import: ["": 17]>
chain (float[N, 4, 9, 9] x) => (float[N, 8, 9, 9] y)
<float xs = {0.03}, uint8 xz = {128}, float rs = {0.07}, uint8 rz = {100},
 float ys = {0.2}, uint8 yz = {128}, float ws = {0.01}, int8 wz = {0},
 int8[8, 4, 1, 1] w = {WEIGHT}, float bs = {0.0007}, int32[8] b = {1, 2, 3, 4, 5, 6, 7, 8}>
{
    xq = QuantizeLinear (x, xs, xz)
    xd = DequantizeLinear (xq, xs, xz)
    rq = QuantizeLinear (xd, rs, rz)
    rd = DequantizeLinear (rq, rs, rz)
    wd = DequantizeLinear (w, ws, wz)
    bd = DequantizeLinear (b, bs)
    [conv] c = Conv (rd, wd, bd)
    yq = QuantizeLinear (c, ys, yz)
    y = DequantizeLinear (yq, ys, yz)
}"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    codes = np.random.default_rng(0).integers(-127, 128, 32)
    text = CHAIN.replace("WEIGHT", ", ".join(str(code) for code in codes))
    ir.save(ir.from_onnx_text(text), tmp_path / "chain.onnx")
    return tmp_path / "chain.onnx"


def test_both_shares_of_a_whole_network(tmp_path: Path) -> None:
    _, quantized = write(tmp_path, CLASSIFIER)
    model = quantkit.load_quantized(quantized)
    assert planned_mac_percent(model) == 100.0
    assert measured_mac_percent(quantized, model.prepared.program) == 100.0


def test_a_node_kept_float_is_not_counted(tmp_path: Path) -> None:
    config = quantkit.QuantConfig(nodes_to_exclude=("second",))
    _, quantized = write(tmp_path, CLASSIFIER, config=config)
    model = quantkit.load_quantized(quantized)
    # MACs: first 16 * 8 * 27, second 4 * 8 * 9, last 56.
    expected = 100.0 * (3456 + 56) / (3456 + 288 + 56)
    assert planned_mac_percent(model) == pytest.approx(expected, abs=1e-9)
    assert measured_mac_percent(quantized, model.prepared.program) == planned_mac_percent(model)


def test_16_bit_activations_are_no_8_bit_ones(tmp_path: Path) -> None:
    _, plain = write(tmp_path, CLASSIFIER)
    model = quantkit.load_quantized(plain)
    value = next(node for node in model.prepared.program.nodes if node.name == "second").outputs[0]
    config = quantkit.QuantConfig(tensors_in_16_bits=(value,))
    _, quantized = write(tmp_path, CLASSIFIER, config=config)
    wide = quantkit.load_quantized(quantized)
    assert planned_mac_percent(wide) == 100.0
    measured = measured_mac_percent(quantized, wide.prepared.program)
    assert int8_mac_percent(wide) == measured
    assert measured is not None
    assert measured < 99.0


def test_what_onnxruntime_does_not_fuse_is_not_claimed(chain: Path) -> None:
    model = quantkit.load_quantized(chain)
    assert planned_mac_percent(model) == 100.0
    assert measured_mac_percent(chain, model.prepared.program) == 0.0


def test_verify_says_what_onnxruntime_merges(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from quantkit_cli.app import main

    x = 1.5 * np.random.default_rng(1).normal(size=(4, 4, 9, 9)).astype(np.float32)
    np.save(chain.parent / "x.npy", x)
    assert main(["verify", str(chain), "--data", str(chain.parent / "x.npy")]) == 0
    out = capsys.readouterr().out
    assert "output values differ, by up to" in out
    assert "which onnxruntime merges with its neighbours" in out
