"""What is said of a network before any data, against what is true after quantizing."""

import json
from pathlib import Path

import onnx_ir as ir
import pytest

from quantkit.exporters.qoperator import write_qoperator
from quantkit.graph.model_io import save_model
from quantkit.pipeline.inspection import inspect_model
from quantkit.reporting.inspection import Inspection
from quantkit.reporting.inspection_sections import inspection_sections
from quantkit.reporting.section import Section
from tests.small_networks import NETWORKS, float_model, quantized


def inspected(text: str, folder: Path) -> Inspection:
    save_model(float_model(text), folder / "net.onnx")
    return inspect_model(folder / "net.onnx")


def section(found: Inspection, name: str) -> Section:
    (one,) = [one for one in inspection_sections(found) if one.name == name]
    return one


@pytest.mark.parametrize("name", ["mobile", "residual"])
def test_the_estimated_size_is_that_of_the_constants(name: str, tmp_path: Path) -> None:
    save_model(NETWORKS[name].model(), tmp_path / "net.onnx")
    found = inspect_model(tmp_path / "net.onnx")
    model, _ = quantized(NETWORKS[name])
    constants = model.constants.values()
    codes = sum(tensor.data.nbytes for tensor in constants)
    # An int8 scale and zero point per channel; those of biases follow from them.
    scales = sum(5 * tensor.params.scale.size for tensor in constants if tensor.data.itemsize == 1)
    used = {name for node in model.prepared.program.nodes for name in node.inputs}
    settings = sum(
        array.nbytes
        for name, array in model.prepared.program.constants.items()
        if name in used and name not in model.constants
    )
    assert found.totals.int8_constant_bytes == codes + scales + settings


def test_json_round_trips(tmp_path: Path) -> None:
    save_model(NETWORKS["mobile"].model(), tmp_path / "net.onnx")
    found = inspect_model(tmp_path / "net.onnx")
    assert found.preparation
    text = found.model_dump_json()
    assert "pass" in json.loads(text)["preparation"][0]
    assert Inspection.model_validate_json(text) == found
    shares = [layer.mac_percent for layer in found.layers]
    assert sum(share or 0.0 for share in shares) == pytest.approx(100.0)


def test_reasons_are_grouped_the_most_frequent_first(tmp_path: Path) -> None:
    nodes = " ".join(
        f"[d{i}] h{i} = Det({'x' if i == 0 else f'r{i - 1}'}) [r{i}] r{i} = Expand(h{i}, s)"
        for i in range(7)
    )
    text = (
        "(float[4,4] x) => (float[4,4] y) "
        f"{{ s = Constant<value_ints = [4,4]>() {nodes} [n] y = Round(r6) }}"
    )
    found = inspected(text, tmp_path)
    table = section(found, "float").table
    assert table is not None
    assert sum(int(row[1]) for row in table.rows) == 15
    assert [int(row[1]) for row in table.rows] == sorted(
        (int(row[1]) for row in table.rows), reverse=True
    )
    (row,) = [row for row in table.rows if "Det" in row[2]]
    assert row[0] == "d0, d1, d2, d3, d4 and 2 more"


def test_unknown_sizes_are_named_with_the_way_to_fix_them(tmp_path: Path) -> None:
    text = "(float[N,2,height,8] x, float[4,2,1,1] w) => (float[N,4,height,8] y) { y = Conv(x, w) }"
    found = inspected(text, tmp_path)
    assert [(d.input, d.axis, d.name) for d in found.unknown_dimensions] == [("x", 2, "height")]
    assert found.layers[0].mac_percent is None
    assert found.totals.float_peak_bytes is None
    sentences = section(found, "summary").sentences
    assert any("--dim_param height --dim_value SIZE" in sentence for sentence in sentences)
    assert not any("peak" in sentence for sentence in sentences)
    fixed = inspected(text.replace("height", "5"), tmp_path)
    assert fixed.unknown_dimensions == ()
    assert fixed.totals.macs == 4 * 5 * 8 * 2
    # Conv: 2x5x8 inputs and 4x5x8 outputs at a time.
    assert fixed.totals.float_peak_bytes == 4 * (80 + 160)
    assert fixed.totals.int8_peak_bytes == 80 + 160


def test_a_quantized_file_of_any_form(tmp_path: Path) -> None:
    model, _ = quantized(NETWORKS["residual"])
    write_qoperator(model, tmp_path / "q.onnx")
    found = inspect_model(tmp_path / "q.onnx")
    assert found.quantized_by is not None
    assert found.kept_float == dict(model.plan.kept_float)
    named = ir.load(tmp_path / "q.onnx")
    named.producer_name = "another tool"
    named.metadata_props.clear()
    ir.save(named, tmp_path / "q.onnx")
    assert inspect_model(tmp_path / "q.onnx").quantized_by == "another tool"
