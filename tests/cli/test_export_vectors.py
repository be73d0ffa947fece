"""``export --format vectors``, its samples, and ``--reduce-range-node``."""

import json
from pathlib import Path

import numpy as np
import pytest

import quantkit
from quantkit.exporters.contract import EXPORTERS
from quantkit_cli.quantization_options import FORMATS
from tests.cli.runner import contents, run, run_json
from tests.exporters.vector_checker import ARITHMETICS, read_layers, wrong_codes


def test_the_command_line_describes_every_format() -> None:
    lines = {name: (write.__doc__ or "").split("\n")[0] for name, write in EXPORTERS.items()}
    assert lines == FORMATS


@pytest.mark.parametrize("command", ["export", "quantize"])
def test_help_lists_every_format(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(run(f"{command} --help", capsys)[0].split())
    for name, line in FORMATS.items():
        assert f"{name}: {line}" in text


def test_vectors_of_a_quantized_and_of_a_float_model(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same samples give the same codes; what is printed is the size of the files."""
    first, second, third = (tmp_path / name for name in "abc")
    samples = "--format vectors --data e.npz --num-samples 2"
    run(f"export m.onnx -c m.calib.npz -o {tmp_path}/fast.onnx", capsys)
    facts = run_json(f"export {tmp_path}/fast.onnx {samples} -o {first}", capsys)
    assert facts["bytes"] == sum(path.stat().st_size for path in first.iterdir())
    out, err = run(f"export m.onnx -c m.calib.npz {samples} -o {second}", capsys)
    assert f"wrote {second}: " in out
    assert err == ""
    run(f"quantize m.onnx c.npz --format vectors -o {third}", capsys)
    # Clamps that saturation performs are nodes of the float model only.
    read, made, of_one = (
        {entry["node"]: (entry, arrays) for entry, arrays in read_layers(folder)}
        for folder in (first, second, third)
    )
    assert read.keys() < made.keys() == of_one.keys()
    for node, (entry, arrays) in made.items():
        assert wrong_codes(entry, arrays, 5) == {name: [] for name in ARITHMETICS}
        assert arrays["input_0"].shape[0] == 2
        assert of_one[node][1]["input_0"].shape[0] == 1
    for node, (_, arrays) in read.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, made[node][1][name])
    named = json.loads((first / "index.json").read_text())["samples"]
    assert named.startswith("samples ")


def test_without_data_codes_are_random(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"export m8.onnx --format vectors -o {tmp_path / 'v'}", capsys)
    assert "pseudo-random" in (tmp_path / "v" / "README.md").read_text()


def test_stored_preprocessing_is_used(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "o.onnx"
    run(f"quantize m.onnx pictures --mean 8 --std 16 -o {model}", capsys)

    def first_codes(folder: str, options: str) -> bytes:
        target = tmp_path / folder
        run(f"export {model} --format vectors --data pictures {options} -o {target}", capsys)
        return next(read_layers(target))[1]["input_0"].tobytes()

    stored = first_codes("stored", "")
    assert stored == first_codes("given", "--mean 8 --std 16")
    assert stored != first_codes("other", "--mean 8 --std 64")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("export m8.onnx --data e.npz -o o.onnx", "'qdq' holds no samples"),
        ("export m8.onnx --num-samples 2 -o o.onnx", "are for vectors; leave them out"),
        ("export m8.onnx --preset unit -o o.onnx", "'qdq' holds no samples"),
        ("export m8.onnx --format vectors --preset unit -o v", "preprocessing is for data"),
        (
            "export m8.onnx --format vectors -o folder",
            "'folder' exists already; vectors need a new",
        ),
        ("export m8.onnx --format vectors -o c.npz", "'c.npz' exists already"),
        ("export m8.onnx --format vectors -o none/v", "the folder 'none' does not exist"),
        ("export m8.onnx --format vectors --data none.npz -o v", "none.npz"),
        ("export m8.onnx --format vectors --data nine_rows.npz -o v", "nine_rows.npz"),
        ("quantize m.onnx c.npz --format vectors -o folder", "'folder' exists already"),
        ("export m8.onnx --reduce-range-node classifier -o o.onnx", "have no effect"),
        (
            "export m.onnx -c m.calib.npz --reduce-range-node nope -o o.onnx",
            "--reduce-range-node: no node is called 'nope'",
        ),
    ],
)
def test_bad_input(
    command: str, message: str, workbench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(workbench)
    out, err = run(command, capsys, code=2)
    assert message in err
    assert err.startswith("error: ")
    assert out == ""
    assert contents(workbench) == before


@pytest.mark.parametrize("command", ["export m.onnx -c m.calib.npz", "quantize m.onnx c.npz"])
def test_reduce_range_node(
    command: str, workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "o.onnx"
    run(
        f"{command} --reduce-range-node classifier --reduce-range-node stem/conv -o {output}",
        capsys,
    )
    model = quantkit.load_quantized(output)
    weights = {
        node.name: model.constants[node.inputs[1]].data
        for node in model.prepared.program.nodes
        if node.op_type in ("Conv", "Gemm")
    }
    largest = {name: int(np.abs(codes.astype(int)).max()) for name, codes in weights.items()}
    reduced = {name for name, value in largest.items() if value <= 64}
    assert reduced == {"classifier", "stem/conv"}
    assert {value for name, value in largest.items() if name not in reduced} == {127}
