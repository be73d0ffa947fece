"""``quantkit diff``: models of several recipes, formats and tools; reports; what it refuses."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import quantkit
from quantkit.graph.program import Array
from quantkit.pipeline.differences import diff
from quantkit.quantized_model.qdq_reader import read_qdq
from quantkit.recipes import RECIPES
from quantkit.reporting.model_differences import ModelDifferences
from quantkit.reporting.report_differences import ReportDifferences
from tests.cli.runner import contents, run, run_json
from tests.reporting.example_report import example_report


class Digits(CalibrationDataReader):  # type: ignore[misc, no-any-unimported, unused-ignore]
    def __init__(self, pictures: Array) -> None:
        self._feeds: Iterator[dict[str, Array]] = iter([{"input": one[None]} for one in pictures])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


@pytest.fixture(scope="module")
def models(filled_workbench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one float model: recipes, formats, tools."""
    folder = tmp_path_factory.mktemp("models")
    source = filled_workbench / "m.onnx"
    shutil.copyfile(source, folder / "m.onnx")
    shutil.copyfile(filled_workbench / "m8.onnx", folder / "balanced.onnx")
    quantkit.load_quantized(filled_workbench / "m8.onnx")
    quantkit.export(read_qdq(folder / "balanced.onnx"), folder / "qoperator.onnx", "qoperator")
    fast = quantkit.quantize(source, filled_workbench / "c.npz", config=RECIPES["fast"])
    fast.save(folder / "fast.onnx")
    pictures = np.load(filled_workbench / "c.npz")["input"].astype(np.float32)[:10]
    for name, form in (("qdq", QuantFormat.QDQ), ("ql", QuantFormat.QOperator)):
        quantize_static(
            str(source),
            str(folder / f"ort_{name}.onnx"),
            Digits(pictures),
            quant_format=form,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )
    return folder


@pytest.fixture
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(models)
    return models


def test_a_file_and_itself(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(here)
    out, err = run("diff balanced.onnx balanced.onnx --exit-code", capsys)
    assert err == ""
    assert out.splitlines() == [
        "balanced.onnx against balanced.onnx",
        "first: balanced.onnx; second: balanced.onnx",
        "No difference.",
        "0 of 17,856 weight codes differ.",
        "0 of 490 biases differ.",
        "0 of 13 activations' scales or zero points differ.",
    ]
    assert contents(here) == before


def test_fast_and_balanced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json("diff fast.onnx balanced.onnx", capsys)
    found = ModelDifferences.model_validate(facts)
    first, second = (read_qdq(here / name) for name in ("fast.onnx", "balanced.onnx"))
    weights = [name for name in first.constants if first.constants[name].data.ndim > 1]
    changed = {
        name: int(np.sum(first.constants[name].data != second.constants[name].data))
        for name in weights
    }
    totals = found.totals
    assert totals.weight_codes == sum(first.constants[name].data.size for name in weights)
    assert totals.changed_weight_codes == sum(changed.values()) > 0
    rows = [c for c in found.constants if c.role == "weight"]
    assert {c.node: c.changed_codes for c in rows} == {
        node.name: changed[node.inputs[1]]
        for node in first.prepared.program.nodes
        if len(node.inputs) > 1 and changed.get(node.inputs[1])
    }
    shares = [(c.changed_codes or 0) / c.codes for c in rows]
    assert shares == sorted(shares, reverse=True)
    steps = ("activation_range_search", "learned_rounding", "empirical_bias_correction")
    assert {(f.name, f.first, f.second) for f in found.metadata} == {
        (f"config.{step}", "false", "true") for step in steps
    }
    assert not found.file_ops
    assert not found.arithmetic
    run("diff fast.onnx balanced.onnx", capsys)
    run("diff fast.onnx balanced.onnx --exit-code", capsys, code=1)


def test_qdq_and_qoperator_hold_the_same_integers(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run("diff balanced.onnx qoperator.onnx", capsys)
    lines = out.splitlines()
    assert "The integers are the same: every code, scale and zero point." in lines
    assert "0 of 17,856 weight codes differ." in lines
    assert any(line.split() == ["QLinearConv", "-", "9"] for line in lines)
    assert "Weights, biases, constants" not in out


def test_other_tools_rename_nodes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json("diff ort_qdq.onnx ort_ql.onnx", capsys)
    found = ModelDifferences.model_validate(facts)
    assert found.totals.weight_codes == 17_856
    assert found.totals.changed_weight_codes == 0
    assert found.totals.changed_activations == 0
    assert found.only_first == ()
    # Clips are gone from the QDQ file: its codes clamp.
    assert {node.op_type for node in found.only_second} == {"Clip"}
    assert {a.quantized_in for a in found.arithmetic} <= {"first"}


def test_of_two_tools(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json("diff balanced.onnx ort_qdq.onnx", capsys)
    found = ModelDifferences.model_validate(facts)
    assert found.totals.nodes == 12
    assert {node.op_type for node in found.only_second} == {"BatchNormalization"}
    # Compared by name, so that the output of a Conv is not taken for that of its clamp.
    assert {change.second.zero_point for change in found.activations if change.second} <= {0, 62}
    assert not [field for field in found.nodes if field.name.endswith("reads")]


def test_another_network(here: Path, workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("diff m8.onnx different8.onnx --exit-code", capsys, code=1)
    assert "Nodes in both: 1; only in the first: 11; only in the second: 0." in out.splitlines()
    assert "Inputs and outputs" in out
    # The first Conv of both reads the input; weights of other shapes are told, not counted.
    assert "16x1x3x3 -> 4x3x3x3" in out
    assert "weight codes differ" not in out


def test_every_form(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("md", "html", "json"):
        run(f"diff fast.onnx balanced.onnx -o {tmp_path / 'd.'}{form}", capsys)
    found = ModelDifferences.model_validate_json((tmp_path / "d.json").read_text())
    changed = f"{found.totals.changed_weight_codes:,} of 17,856 weight codes differ."
    assert changed in (tmp_path / "d.md").read_text(encoding="utf-8")
    assert changed in (tmp_path / "d.html").read_text(encoding="utf-8")
    assert found.model_dump_json(indent=2) + "\n" == (tmp_path / "d.json").read_text()


def test_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = example_report()
    # The suffix says nothing, the content does.
    old, same, new = (tmp_path / name for name in ("old.onnx", "same.json", "new.json"))
    slower = [row.model_copy(update={"latency_ms": 99.0}) for row in report.engines]
    layers = list(report.layers)
    layers[2] = layers[2].model_copy(update={"isolated_sqnr_db": 1.0})
    changed = report.model_copy(
        update={"causes": report.causes[1:], "layers": tuple(layers), "samples": 50}
    )
    old.write_text(report.model_dump_json(), encoding="utf-8")
    same.write_text(
        report.model_copy(update={"engines": tuple(slower)}).model_dump_json(), encoding="utf-8-sig"
    )
    new.write_text(changed.model_dump_json(indent=1), encoding="utf-8")
    out, _ = run(f"diff {old} {same} --exit-code", capsys)
    assert "No difference; latencies are not counted as one." in out
    facts = run_json(f"diff {old} {new} --exit-code", capsys, code=1)
    found = ReportDifferences.model_validate(facts)
    assert [layer.node for layer in found.layers] == [layers[2].node]
    assert found.disappeared == report.causes[:1]
    assert found.appeared == ()
    assert [(f.name, f.first, f.second) for f in found.fields] == [("samples", "650", "50")]


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("diff m.onnx balanced.onnx", ("'m.onnx'", "is not quantized", "two of them, or two")),
        ("diff balanced.onnx none.onnx", ("'none.onnx' cannot be read", "No such file")),
        ("diff balanced.onnx .", ("'.' cannot be read", "directory")),
        ("diff balanced.onnx {r}", ("r.json' is JSON, a report, and 'balanced.onnx' is not",)),
        ("diff {r} balanced.onnx", ("r.json' is JSON, a report, and 'balanced.onnx' is not",)),
        ("diff {r} {other}", ("other.json' is JSON, but no report", "layers", "quantkit report`")),
        ("diff {r} {broken}", ("broken.json' is JSON, but no report",)),
        ("diff {text} balanced.onnx", ("text' is not an ONNX model, or is truncated",)),
        ("diff fast.onnx balanced.onnx -o d.csv", ("use one of .md, .html, .json",)),
        ("diff fast.onnx {r} -o {r}", ("would overwrite",)),
    ],
)
def test_bad_input(
    command: str,
    parts: tuple[str, ...],
    here: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = json.loads(example_report().model_dump_json())
    (tmp_path / "r.json").write_text(json.dumps(facts))
    (tmp_path / "other.json").write_text(json.dumps({**facts, "layers": 1}))
    (tmp_path / "broken.json").write_text(json.dumps(facts)[:-9])
    (tmp_path / "text").write_text("neither")
    places = {name: tmp_path / f"{name}.json" for name in ("r", "other", "broken")}
    before = contents(tmp_path), contents(here)
    out, err = run(command.format(**places, text=tmp_path / "text"), capsys, code=2)
    assert out == ""
    assert len(err.splitlines()) == 1
    for part in parts:
        assert part in err
    assert (contents(tmp_path), contents(here)) == before


def test_a_changed_code_is_found(here: Path, tmp_path: Path) -> None:
    """One bit of one weight."""
    model = ir.load(here / "balanced.onnx")
    (weight,) = [
        value
        for name, value in model.graph.initializers.items()
        if name.startswith("stem/conv/weight")
        and value.const_value is not None
        and value.const_value.dtype == ir.DataType.INT8
        and len(value.const_value.shape) == 4
    ]
    assert weight.const_value is not None
    codes = weight.const_value.numpy().copy()
    codes[0, 0, 0, 0] ^= 1
    weight.const_value = ir.tensor(codes, name=weight.name)
    ir.save(model, tmp_path / "touched.onnx")
    found = diff(here / "balanced.onnx", tmp_path / "touched.onnx")
    assert isinstance(found, ModelDifferences)
    (change,) = found.constants
    assert (change.node, change.role) == ("stem/conv", "weight")
    assert (change.changed_codes, change.largest_code_change) == (1, 1)
    assert (change.changed_scales, change.largest_scale_ratio) == (0, 1.0)
    assert not found.is_same
    assert not found.are_integers_same
