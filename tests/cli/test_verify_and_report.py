"""``verify`` and ``report``: what they say of a good, a sabotaged and a damaged network."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import quantkit
from quantkit.evaluation.verification import CodeDifference, LayerVerification, Verification
from quantkit.numerics.affine import IntegerArray
from quantkit.ops.contract import OPS, Kernel, Lowering
from quantkit.ops.gemm import Gemm
from quantkit.reporting.report import Report
from quantkit_cli.verification_output import print_verification
from tests.cli.runner import progress_lines, run, run_json

NUMBERS = re.compile(r"(?<= )-?[\d,.]+(?= |$)")


def test_verify(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run("verify m8.onnx --data e.npz", capsys)
    assert progress_lines(err) == [f"verify: {done} of 16" for done in (4, 8, 12, 16)]
    lines = out.splitlines()
    assert lines[:2] == [
        "PASS: 0 of 176,288 codes of 12 layers differ given equal inputs",
        "end to end: outputs bit for bit onnxruntime's; same class on 16 of 16 samples",
    ]
    assert "and the ops in floats, 16 samples" in " ".join(out.split())
    (heading,) = (line.split() for line in lines if line.startswith("layer"))
    assert heading == ["layer", "op", "codes", "alone", "so", "far", "float", "ties"]
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines if " codes " in line)
    (row,) = (line.split() for line in lines if line.startswith("classifier"))
    assert row == ["classifier", "Gemm", "160", "0", "0", "0", "0"]


def test_verify_fixed_point_allows_one_code(
    workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--arithmetic fixed_point --strict-integer --num-samples 4"
    out, _ = run(f"verify m8.onnx --data e.npz {options}", capsys)
    text = " ".join(out.split())
    assert re.search(
        r"^PASS: [1-9]\d* of 44,072 codes of 12 layers differ given equal inputs, each by at most "
        r"the 1 allowed end to end: ",
        text,
    )
    assert re.search(r" first to differ so far: '[^']*' \(Conv\): \d+ of its codes ", text)
    total = r" \d+ layers: of (\d+) differing codes .* exactly rounded here; allowed: a difference "
    found = re.findall(total, text)
    assert found == re.findall(r"PASS: (\d+) of", text)


def test_verify_json(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_json("verify m8.onnx --data e.npz --num-samples 2", capsys)
    assert facts["passed"] is True
    assert facts["first_failure"] is None
    assert facts["float_islands"] == facts["not_compared"] == {}
    assert facts["end_to_end"] == {
        "identical": True,
        "output_values": 20,
        "differing_outputs": 0,
        "largest_output_difference": 0.0,
        "same_class": 2,
        "first_divergence": None,
    }
    assert facts["oracle"] == {
        "difference": 0.0,
        "default_difference": None,
        "default_in_floats": [],
    }
    assert len(facts["layers"]) == 12
    for layer in facts["layers"]:
        assert (layer["passed"], layer["tolerance"], layer["remark"]) == (True, 0, "")
        assert layer["isolated"]["mismatches"] == layer["accumulated"]["mismatches"] == 0
        assert layer["isolated"]["codes"] > 0
        assert layer["isolated"].keys() - layer["accumulated"].keys() == {
            "ties",
            "tie_mismatches",
            "near_tie_mismatches",
            "exact_mismatches",
            "unexplained",
            "largest_from_exact",
        }


def test_verify_hardware(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "verify m8.onnx --data e.npz --num-samples 4 --hardware"
    out, err = run(command, capsys)
    assert progress_lines(err) == [f"verify: {done} of 4" for done in (1, 2, 3, 4)]
    lines = out.splitlines()
    (row,) = (line.split() for line in lines if line.startswith("classifier") and "/" in line)
    assert row[:2] == ["classifier", "Gemm"]
    facts = run_json(command, capsys)["hardware"]
    (layer,) = (layer for layer in facts["layers"] if layer["node"] == "classifier")
    assert row[2:5] == [str(layer["accumulator_bits"]), "/", str(layer["observed_bits"])]
    assert facts["peak_bytes"] == max(layer["live_bytes"] for layer in facts["layers"])
    assert any(line.startswith("peak of activations: ") for line in lines)
    judged = facts["x86_without_vnni"]
    assert facts["advice"] == [f"--reduce-range-node {name}" for name in judged["saturated"]]
    assert judged["saturated"]
    assert judged["can_saturate"]
    assert not judged["is_safe"]
    text = " ".join(out.split())
    assert f"gets {len(judged['saturated'])} layers wrong on the 4 samples; " in text
    assert f"can get another {len(judged['can_saturate'])} layer" in text
    assert "computes the same" not in text
    shares = {line.split()[0]: line.split()[5] for line in lines if " / " in line and ".." in line}
    assert {name for name, share in shares.items() if share == "can"} == {*judged["can_saturate"]}
    assert "quantkit did not make this file" not in text


def test_only_a_proof_says_that_other_hardware_computes_the_same(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing saturates on black pictures; only with a reduced range nothing ever can."""
    with np.load("e.npz") as samples:
        np.savez(tmp_path / "black.npz", input=np.zeros_like(samples["input"][:1]))
    run(f"export m.onnx -c m.calib.npz -o {tmp_path / 'r.onnx'} --reduce-range", capsys)
    for model, is_safe in (("m8.onnx", False), (str(tmp_path / "r.onnx"), True)):
        out, _ = run(f"verify {model} --data {tmp_path / 'black.npz'} --hardware", capsys)
        assert ("x86 without VNNI computes the same" in out) == is_safe
        assert (" can get " in out) != is_safe


def test_a_file_without_batch_normalization_has_nothing_to_fold(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        "verify m8.onnx --data e.npz --num-samples 1",
        f"export m8.onnx -o {tmp_path / 'x.onnx'}",
        "report m.onnx m8.onnx --data e.npz --num-samples 1 --no-integer-session",
    ):
        _, err = run(f"{command} --fold-batch-norm", capsys)
        assert err.splitlines().count("warning: m8.onnx has no BatchNormalization to fold") == 1


def test_the_headline_speaks_of_judged_layers_only(capsys: pytest.CaptureFixture[str]) -> None:
    counts = CodeDifference(unsaturated=50, unsaturated_mismatches=9, largest=3)
    found = Verification(
        arithmetic="onnxruntime",
        samples=1,
        layers=(
            LayerVerification("judged", "Conv", CodeDifference(unsaturated=100)),
            LayerVerification("shown", "Conv", counts, tolerance=None, remark="folded"),
        ),
        float_islands={"island": "no kernel", "conv": "'y': fold that with --fold-batch-norm"},
        not_compared={"other": "no codes"},
        same_class=None,
        output_values=1,
        differing_outputs=0,
        largest_output_difference=0.0,
        first_divergence=None,
        oracle_difference=0.0,
        default_difference=None,
        default_in_floats=(),
        integer_mac_percent=99.97,
    )
    print_verification(Path("m.onnx"), found)
    out = capsys.readouterr().out
    text = " ".join(out.split())
    assert text.startswith(
        "PASS: 0 of 100 codes of 1 layer differ given equal inputs "
        "judged: 1 of 3 integer layers; 2 nodes stay float (99.9 % of multiply-accumulates in "
        "integers) BatchNormalization keeps 1 of these float: fold it with --fold-batch-norm "
        "shown, not judged: 9 of 50 codes of 1 layer differ (see the notes) end to end: "
    )
    assert "making the codes visible did not change onnxruntime's outputs" in text
    assert all(len(line) <= 80 and line == line.rstrip() for line in out.splitlines())
    print_verification(Path("m.onnx"), replace(found, layers=found.layers[1:]))
    assert capsys.readouterr().out.startswith("NOT JUDGED: no layer's codes can be compared")


def test_swapped_and_float_models(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run("report m8.onnx m.onnx --data e.npz", capsys, code=2)
    assert err.strip().endswith("; are the two models swapped?")
    _, err = run(f"export m.onnx -o {tmp_path / 'x.onnx'}", capsys, code=2)
    assert "`quantkit quantize`" in err
    assert err.strip().endswith("; to export a float model, give its --calibration")


@pytest.fixture
def sabotaged_gemm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code of a Gemm is one too high (one too low at the top)."""
    lower = Gemm.lower

    def wrong(self: Gemm, lowering: Lowering) -> Kernel:
        kernel = lower(self, lowering)

        def off_by_one(inputs: Sequence[IntegerArray]) -> tuple[IntegerArray, ...]:
            (codes,) = kernel(inputs)
            return ((codes ^ 1).astype(codes.dtype),)

        return off_by_one

    assert isinstance(OPS["Gemm"], Gemm)
    monkeypatch.setattr(Gemm, "lower", wrong)


@pytest.mark.usefixtures("sabotaged_gemm")
def test_verify_fails_and_names_the_layer(
    workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run("verify m8.onnx --data e.npz --num-samples 4", capsys, code=1)
    lines = out.splitlines()
    assert lines[0] == "FAIL: 40 of 44,072 codes of 12 layers differ given equal inputs"
    assert "first to differ so far: 'classifier' (Gemm): 40 of its codes differ" in out
    (row,) = (line.split() for line in lines if line.startswith("classifier "))
    assert row[-1] == "FAIL"
    assert any(line.startswith("classifier: of 40 differing codes 0 on a half") for line in lines)
    assert err.splitlines()[-1] == (
        "error: 'classifier' (Gemm) is the first layer that differs: 40 of 40 codes given equal "
        "inputs, by up to 1; allowed: none"
    )
    facts = run_json("verify m8.onnx --data e.npz --num-samples 4", capsys, code=1)
    assert facts["passed"] is False
    assert facts["first_failure"] == "classifier"


@pytest.mark.usefixtures("sabotaged_gemm")
def test_verify_in_python_fails_too(workbench: Path) -> None:
    found: Verification = quantkit.verify("m8.onnx", "e.npz", num_samples=2)
    assert not found.passed
    assert found.first_failure is not None
    assert found.first_failure.node == "classifier"


def test_report(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run("report m.onnx m8.onnx --data e.npz", capsys)
    assert "accuracy: 497 of 497" in err
    assert re.search(r"^layers: (\d+) of \1\b", err, re.MULTILINE)
    rows = {line[:20].strip(): line[20:].split() for line in out.splitlines() if line}
    assert rows["float"][:4] == ["99.60", "100.00", "-", "-"]
    assert rows["int8 in onnxruntime"][:3] == ["99.60", "100.00", "100.00"]
    assert rows["int8 integer session"][:4] == rows["int8 in onnxruntime"][:4]
    assert out.startswith("m8.onnx against m.onnx\n497 samples.\n")
    assert "\nCauses\nNo cause found: nothing stands out in the 13 layers judged. " in out


def test_report_names_the_damaged_layer_and_the_option(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "damaged.onnx"
    options = "--per-tensor --no-bias-correction --no-cross-layer-equalization"
    run(f"export m.onnx -c m.calib.npz -o {output} {options}", capsys)
    facts = run_json(f"report m.onnx {output} --data e.npz --no-integer-session", capsys)
    first = facts["causes"][0]
    assert re.fullmatch(r"block_[34]/depthwise/conv", first["node"])
    assert first["remedy"]["config"] == {"per_channel": True}
    assert facts["drop"]["low"] > 50.0
    out, _ = run(f"report m.onnx {output} --data e.npz --no-integer-session", capsys)
    assert re.search(r": the drop of 8\d\.\d\d points is more than noise \(95 % interval \+", out)
    lines = out.splitlines()
    cause = lines[lines.index("Causes, the worst first") + 3]
    assert cause.split()[0] == first["node"]
    assert f"  {first['remedy']['text']}  " in cause
    assert first["remedy"]["text"].startswith("--per-channel")


def test_report_json_is_the_report(workbench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("report m.onnx m8.onnx --data c.npz --num-samples 8 --json -q", capsys)
    report = Report.model_validate_json(out)
    assert report.samples == 8
    assert report.drop is None
    assert json.loads(out)["provenance"]["quantkit"]
    assert json.loads(out)["provenance"]["command"].startswith("quantkit")


def test_a_report_in_a_pipe_has_whole_rows_and_sentences(workbench: Path) -> None:
    program = [sys.executable, "-m", "quantkit_cli.app"]
    command = [
        *program,
        *["report", "m.onnx", "m8.onnx", "--data", "e.npz", "--num-samples", "16", "-q"],
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line for line in out.splitlines() if line.startswith("block_")]
    assert len(rows) == 8
    # SQNR of outputs, alone, so far; saturated, clipped; two cosines; MACs; bits.
    assert all(len(NUMBERS.findall(row)) == 9 for row in rows)
    assert any(
        line.startswith("0 of 16 samples ch") and line[-1] == "." for line in out.splitlines()
    )
