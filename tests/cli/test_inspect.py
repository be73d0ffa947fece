"""``quantkit inspect``: its tables, its files, quantized models."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from quantkit.graph.model_io import save_model
from quantkit.reporting.inspection import Inspection
from quantkit_cli.app import app, main
from tests.cli.runner import run, run_json


@pytest.fixture
def separable_model(tmp_path: Path) -> Path:
    """Depthwise 3x3, BatchNormalization, Relu, pointwise, Erf: 4 -> 8 channels on 6 x 6 pixels."""
    rng = np.random.default_rng(0)
    model = ir.from_onnx_text(
        """
        <ir_version: 10, opset_import: ["" : 17]>
        net (float[batch, 4, 6, 6] x) => (float[batch, 8, 6, 6] y) {
            [depthwise] h = Conv <group = 4, pads = [1, 1, 1, 1]> (x, w1)
            [bn] n = BatchNormalization (h, gamma, beta, mean, variance)
            [relu] r = Relu (n)
            [pointwise] p = Conv (r, w2)
            [erf] y = Erf (p)
        }
        """
    )
    constants = {
        "w1": rng.normal(size=(4, 1, 3, 3)),
        "w2": rng.normal(size=(8, 4, 1, 1)),
        "gamma": np.ones(4),
        "beta": np.zeros(4),
        "mean": np.zeros(4),
        "variance": np.ones(4),
    }
    used = {value.name: value for node in model.graph for value in node.inputs if value is not None}
    for name, array in constants.items():
        value = used[name]
        value.const_value = ir.tensor(array.astype(np.float32), name=name)
        model.graph.register_initializer(value)
    path = tmp_path / "net.onnx"
    save_model(model, path)
    return path


def test_inspect_shows_layers_and_savings(separable_model: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(separable_model)])
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    # 4 * 36 * 9 and 8 * 36 * 4; each has a bias after the fold.
    assert "depthwise Conv batchx4x6x6 1,296 52.94 40 576 int8" in lines
    assert "relu Relu batchx4x6x6 - - - 576 in Conv" in lines
    assert "pointwise Conv batchx8x6x6 1,152 47.06 40 1,152 int8" in lines
    assert "erf Erf batchx8x6x6 - - - 1,152 float" in lines
    (reason,) = [line for line in lines if line.startswith("erf 1 ")]
    assert "onnxruntime" in reason
    assert "BatchNormalization folded: 1" in lines
    # 1/8 + 1/9 of 8 * 36 * 4 * 9.
    assert "depthwise 8 3x3 2,448 10,368 7,920 0.2361" in lines
    assert "saved against standard convolutions: 7,920 of 10,368 MACs (76.39 %)" in lines
    assert "total: 2,448 MACs per sample, 80 parameters after folding" in lines
    assert "int8: 100.00 % of the MACs" in lines


def test_inspect_json(separable_model: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(separable_model), "--json"])
    facts = json.loads(result.output)
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 4, 6, 6]}]
    assert [layer["macs"] for layer in facts["layers"]] == [1296, 0, 1152, 0]
    assert [layer["int8"] for layer in facts["layers"]] == [True, True, True, False]
    assert facts["layers"][3]["float_reason"]
    assert facts["layers"][1]["absorbed_by"] == "depthwise"
    totals = facts["totals"]
    assert (totals["macs"], totals["int8_macs"], totals["saved_macs"]) == (2448, 2448, 7920)
    assert totals["parameters"] == 80
    assert [block["ratio"] for block in facts["separable_blocks"]] == [2448 / 10368]
    assert "fold_batch_norm" in {note["pass"] for note in facts["preparation"] if note["applied"]}


def test_inspect_says_what_was_refused_and_what_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "loose.onnx"
    model = ir.from_onnx_text(
        """
        <ir_version: 10, opset_import: ["" : 17]>
        net (float[batch, 2, height] x, float[4, 2, 1] w) => (float[batch, 4, width] y) {
            [conv] h = Conv (x, w)
            [relu] y = Relu (h)
        }
        """
    )
    save_model(model, path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "total: at least 0 MACs" in out
    assert "not counted, for want of known shapes: 1 of the nodes: conv" in out
    (row,) = [line for line in out.splitlines() if line.startswith("conv ") and " 1  " in line]
    assert row.endswith("export with fixed shapes and frozen parameters, or simplify it")
    (hint,) = [line for line in out.splitlines() if line.startswith("axis 2 of input 'x'")]
    assert "--dim_param height --dim_value SIZE" in hint


def test_every_form_holds_the_same_layers(
    separable_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(f"inspect {separable_model}", capsys)
    assert err == ""
    files = {form: tmp_path / f"net.{form}" for form in ("json", "csv", "md", "html")}
    for path in files.values():
        told, _ = run(f"inspect {separable_model} -o {path}", capsys)
        assert told == f"{out}\nwrote {path}\n"
    text = files["json"].read_text(encoding="utf-8")
    found = Inspection.model_validate_json(text)
    assert found.model_dump_json(indent=2) + "\n" == text
    rows = list(csv.DictReader(files["csv"].read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in rows] == [layer.name for layer in found.layers]
    assert [float(row["mac_percent"]) for row in rows] == [
        layer.mac_percent for layer in found.layers
    ]
    assert "onnxruntime" in rows[3]["float_reason"]
    markdown = files["md"].read_text(encoding="utf-8")
    assert "| depthwise | Conv | batchx4x6x6 | 1,296 | 52.94 | 40 | 576 | int8 |" in markdown
    page = files["html"].read_text(encoding="utf-8")
    assert "<title>net.onnx" in page
    assert "1,296" in page


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("inspect m.onnx -o page.pdf", ("the suffix tells the form; use one of .html, .md",)),
        ("inspect m.onnx -o none/page.md", ("the folder 'none' does not exist",)),
        ("inspect wrong.json", ("is not an ONNX model",)),
    ],
)
def test_bad_places_are_told(
    command: str,
    parts: tuple[str, ...],
    workbench: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "wrong.json").write_text("{}")
    out, err = run(command.replace("wrong.json", str(tmp_path / "wrong.json")), capsys, code=2)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(part in err for part in parts)


def test_a_quantized_model_says_what_it_is(
    workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run("inspect m8.onnx", capsys)
    assert "quantized already, by quantkit 0." in out
    assert ": 12 of its 12 nodes are int8\n" in out
    assert "about" not in out
    facts = run_json("inspect m8.onnx", capsys)
    assert {layer["runs_as"] for layer in facts["layers"]} == {"int8"}
    before = run_json("inspect m.onnx", capsys)
    assert before["quantized_by"] is None
    totals = before["totals"]
    assert totals["macs"] == facts["totals"]["macs"]
    # What was estimated before calibration is what the quantized network takes.
    assert totals["int8_peak_bytes"] == facts["totals"]["int8_peak_bytes"]
    assert 0 < totals["int8_peak_bytes"] < totals["float_peak_bytes"]
