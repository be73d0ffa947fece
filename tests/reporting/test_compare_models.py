"""Two models with known differences, and what is said of them."""

import io
from pathlib import Path

import onnx_ir as ir
import pytest
from rich.console import Console

from quantkit.pipeline.differences import diff
from quantkit.reporting.difference_sections import difference_sections
from quantkit.reporting.model_differences import ModelDifferences, TensorParams
from quantkit.reporting.render_terminal import render_sections

GOLDEN = Path(__file__).parents[1] / "golden"
NET = """
<ir_version: 8, opset_import: ["" : 17], producer_name: "a tool">
net (float[N, 2, 2, 2] x) => (float[N, {channels}, 2, 2] y)
<
  float sx = {{{sx}}}, {dtype} zx = {{{zx}}},
  {wtype}[{channels}, 2, 1, 1] wq = {{{weight}}}, float[{channels}] sw = {{{scales}}},
  {wtype}[{channels}] zw = {{{weight_zeros}}},
  int32[{channels}] bq = {{{bias}}}, float[{channels}] sb = {{{bias_scales}}},
  int32[{channels}] zb = {{{zeros}}},
  float sy = {{{sy}}}, uint8 zy = {{0}}
>
{{
  xq = QuantizeLinear(x, sx, zx)
  xf = DequantizeLinear(xq, sx, zx)
  w = DequantizeLinear<axis = 0>(wq, sw, zw)
  b = DequantizeLinear<axis = 0>(bq, sb, zb)
  [{conv}] c = Conv(xf, w, b)
  {rest}
}}
"""
REST = """cq = QuantizeLinear(c, sy, zy)
  cf = DequantizeLinear(cq, sy, zy)
  [pool] p = MaxPool<kernel_shape = [1, 1]>(cf)
  pq = QuantizeLinear(p, sy, zy)
  y = DequantizeLinear(pq, sy, zy)"""
FIRST = {
    "channels": "3",
    "dtype": "uint8",
    "conv": "conv",
    "sx": "0.5",
    "zx": "3",
    "weight": "1, 2, 3, 4, 5, 6",
    "scales": "0.25, 0.5, 1.0",
    "wtype": "int8",
    "weight_zeros": "0, 0, 0",
    "zeros": "0, 0, 0",
    "bias": "10, 20, 30",
    "bias_scales": "0.125, 0.25, 0.5",
    "sy": "2.0",
    "rest": REST,
}


def saved(path: Path, **changes: str) -> Path:
    ir.save(ir.from_onnx_text(NET.format(**{**FIRST, **changes})), path)
    return path


def differences(folder: Path, **changes: str) -> ModelDifferences:
    found = diff(saved(folder / "a.onnx"), saved(folder / "b.onnx", **changes))
    assert isinstance(found, ModelDifferences)
    return found


def test_nothing_changed(tmp_path: Path) -> None:
    found = differences(tmp_path)
    assert found.is_same
    totals = found.totals
    assert (totals.nodes, totals.weight_codes, totals.biases, totals.activations) == (2, 6, 3, 3)


def test_a_scale_per_channel(tmp_path: Path) -> None:
    found = differences(tmp_path, scales="0.25, 1.0, 0.125", bias_scales="0.125, 0.5, 0.0625")
    weight, bias = found.constants
    assert (weight.role, weight.scales, weight.changed_scales) == ("weight", 3, 2)
    assert (weight.largest_scale_ratio, weight.changed_codes) == (0.125, 0)
    assert (bias.role, bias.changed_scales, bias.largest_scale_ratio) == ("bias", 2, 0.125)
    assert found.totals.changed_weight_codes == 0


def test_codes_and_biases(tmp_path: Path) -> None:
    found = differences(tmp_path, weight="1, 2, 3, -4, 5, 9", bias="10, 21, 30")
    weight, bias = found.constants
    assert (weight.codes, weight.changed_codes, weight.largest_code_change) == (6, 2, 8)
    assert (bias.codes, bias.changed_codes, bias.largest_code_change) == (3, 1, 1)
    assert not found.activations


def test_codes_are_compared_less_their_zero_points(tmp_path: Path) -> None:
    around_128 = {"wtype": "uint8", "weight_zeros": "128, 128, 128"}
    same = differences(tmp_path, weight="129, 130, 131, 132, 133, 134", **around_128)
    (weight,) = same.constants
    assert weight.dtypes == ("int8", "uint8")
    assert (weight.changed_codes, weight.changed_scales) == (0, 0)
    other = differences(tmp_path, weight="129, 130, 131, 132, 133, 124", **around_128)
    assert (other.constants[0].changed_codes, other.constants[0].largest_code_change) == (1, 10)


def test_activations_are_in_the_order_of_their_change(tmp_path: Path) -> None:
    found = differences(
        tmp_path,
        sx="0.25",
        zx="131",
        sy="16.0",
        bias_scales="0.0625, 0.125, 0.25",
        bias="20, 40, 60",
    )
    assert [change.scale_ratio for change in found.activations] == [8.0, 8.0, 0.5]
    last = found.activations[-1]
    assert last.first == TensorParams(dtype="uint8", scale=0.5, zero_point=3)
    assert last.second == TensorParams(dtype="uint8", scale=0.25, zero_point=131)


def test_a_renamed_node_is_the_same(tmp_path: Path) -> None:
    found = differences(tmp_path, conv="conv_quant", rest=REST.replace("[pool] p", "[q] p"))
    assert (found.only_first, found.only_second, found.totals.nodes) == ((), (), 2)
    assert found.is_same


def test_float_in_one(tmp_path: Path) -> None:
    rest = "[pool] y = MaxPool<kernel_shape = [1, 1]>(c)"
    found = differences(tmp_path, rest=rest)
    assert {change.node: change.quantized_in for change in found.arithmetic} == {
        "conv": "first",
        "pool": "first",
    }
    assert all(change.reason for change in found.arithmetic)
    assert all(change.second is None for change in found.activations)
    assert {change.name for change in found.file_ops} == {"QuantizeLinear", "DequantizeLinear"}


def test_an_attribute(tmp_path: Path) -> None:
    found = differences(tmp_path, rest=REST.replace("[1, 1]", "[1, 1], ceil_mode = 1"))
    assert [(f.name, f.first, f.second) for f in found.nodes] == [("pool: ceil_mode", None, "1")]
    assert not found.are_integers_same


def test_golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update_golden: bool) -> None:
    monkeypatch.chdir(tmp_path)
    found = diff(
        saved(Path("a.onnx")),
        saved(
            Path("b.onnx"),
            weight="1, 2, 3, -4, 5, 9",
            scales="0.25, 1.0, 0.125",
            bias_scales="0.0625, 0.25, 0.03125",
            bias="10, 21, 30",
            sx="0.25",
            zx="0",
            conv="conv_quant",
            rest="cq = QuantizeLinear(c, sy, zy)\n  y = DequantizeLinear(cq, sy, zy)",
        ),
    )
    console = Console(file=io.StringIO(), width=80, color_system=None)
    for part in render_sections("a against b", difference_sections(found), width=80):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    path = GOLDEN / "diff_80_columns.txt"
    if update_golden:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
