"""--recipe and the switches of its steps, for ``quantize`` and ``export``."""

from pathlib import Path

import pytest

from quantkit.config import QuantConfig
from quantkit.errors import ConfigError, UnknownNameError
from quantkit.quantized_model.model import QuantizedModel
from quantkit.recipes import BALANCED
from quantkit_cli.quantization_options import Choices
from quantkit_cli.quantization_summary import print_summary
from tests.cli.runner import run, run_json

SWITCHES = (
    "cross-layer-equalization",
    "linear-edge-equalization",
    "high-bias-absorption",
    "weight-scale-search",
    "bias-correction",
    "activation-range-search",
    "learned-rounding",
    "empirical-bias-correction",
    "block-reconstruction",
)
ALL_OFF = " ".join(f"--no-{name}" for name in SWITCHES)


def stored_config(path: Path) -> QuantConfig:
    return QuantConfig.model_validate_json(QuantizedModel.from_qdq(path).metadata["config"])


def test_every_choice_has_an_option() -> None:
    assert set(Choices.__dataclass_fields__) == {"recipe", *QuantConfig.model_fields}


def test_options_win_over_the_recipe_and_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('range_estimator = "percentile"\npercentile = 99.9\nper_channel = false\n')
    assert Choices(recipe=str(path)).config("fast") == QuantConfig(
        range_estimator="percentile", percentile=99.9, per_channel=False
    )
    config = Choices(recipe=str(path), range_estimator="mse", percentile=98.0).config("fast")
    assert (config.range_estimator, config.percentile) == ("mse", 98.0)
    assert Choices(recipe=str(path)).config("balanced").learned_rounding
    with pytest.raises(ConfigError, match="options: percentile: a number above 50"):
        Choices(percentile=101.0).config("fast")
    with pytest.raises(UnknownNameError, match="unknown range estimator 'kl'; known: auto, "):
        Choices(range_estimator="kl").config("fast")


def test_the_default_of_quantize_is_balanced_and_of_export_fast(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run(f"quantize m.onnx c.npz --num-samples 8 -o {tmp_path}/q.onnx", capsys)
    assert out.startswith("recipe: balanced\n")
    assert stored_config(tmp_path / "q.onnx") == BALANCED
    out, _ = run(f"export m.onnx -c m.calib.npz -o {tmp_path}/e.onnx", capsys)
    assert out.startswith("recipe: fast\n")
    assert stored_config(tmp_path / "e.onnx") == QuantConfig()


def test_few_samples_and_undone_steps_are_told(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "samples are few for steps that fit the network to them (activation range search, "
    _, err = run(f"quantize m.onnx c.npz --num-samples 8 -o {tmp_path}/q.onnx", capsys)
    assert f"8 {told}" in err
    _, err = run(f"quantize m.onnx c.npz --num-samples 32 -o {tmp_path}/q.onnx", capsys)
    assert told not in err
    _, err = run(
        f"quantize m.onnx c.npz --recipe fast --num-samples 8 -o {tmp_path}/q.onnx", capsys
    )
    assert told not in err


def test_the_summary_says_what_was_undone(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "output": "q.onnx",
        "bytes": 10,
        "source": "m.onnx",
        "source_bytes": 40,
        "recipe": "balanced",
        "int8_mac_percent": None,
        "nodes_of_unknown_shape": 3,
        "kept_float": {},
        "undone_steps": ["learned_rounding"],
        "steps": [
            {"step": "bias_correction", "node": ""},
            {"step": "learned_rounding", "node": ""},
        ],
        "notes": ["biases of 2 nodes", "undone: SQNR of the outputs 20.00 -> 18.00 dB"],
    }
    print_summary(facts)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith(
        "1 of 2 steps lost accuracy on the calibration data and were undone"
    )
    assert lines[-1].endswith("share of multiply-accumulates unknown: 3 nodes have dynamic shapes")


def test_every_step_can_be_switched(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"export m.onnx -c m.calib.npz --recipe accurate {ALL_OFF} -o {tmp_path}/e.onnx", capsys)
    config = stored_config(tmp_path / "e.onnx")
    assert not any(getattr(config, name.replace("-", "_")) for name in SWITCHES)


def test_steps_with_data_need_data(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"export m.onnx -c m.calib.npz --recipe balanced -o {tmp_path}/e.onnx"
    _, err = run(command, capsys, code=2)
    assert "the recipe balanced runs the model on data, and none are given: give --data" in err
    assert "leave these steps out: --no-activation-range-search --no-learned-rounding" in err
    assert list(tmp_path.iterdir()) == []
    facts = run_json(f"{command} --data c.npz --num-samples 8", capsys)
    assert facts["recipe"] == "balanced"
    assert stored_config(tmp_path / "e.onnx") == BALANCED


def test_data_that_nothing_reads_are_refused(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"export m.onnx -c m.calib.npz --data c.npz -o {tmp_path}/e"
    _, err = run(command, capsys, code=2)
    assert "nothing reads --data: the recipe fast needs the calibration file alone" in err
    run(f"{command} --format vectors", capsys)
    assert (tmp_path / "e" / "index.json").exists()


def test_vectors_of_a_recipe_with_data(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        "export m.onnx -c m.calib.npz --recipe balanced --data c.npz --num-samples 2 "
        f"--format vectors -o {tmp_path}/v",
        capsys,
    )
    assert (tmp_path / "v" / "index.json").exists()


@pytest.mark.parametrize(
    "choice",
    [
        "--recipe fast",
        "--no-bias-correction",
        "--learned-rounding",
        "--activation-type int8",
        "--tensor-in-16-bits a",
    ],
)
def test_a_quantized_model_is_converted_as_it_is(
    choice: str, workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run(f"export m8.onnx {choice} -o {tmp_path}/e.onnx", capsys, code=2)
    assert "without --calibration a quantized MODEL is converted as it is" in err


def test_a_recipe_that_is_none(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for recipe, message in {
        "best": "no recipe is called 'best'; give fast, balanced, accurate, or a TOML file",
        "none.toml": "recipe 'none.toml' cannot be read: No such file",
    }.items():
        _, err = run(
            f"quantize m.onnx c.npz --recipe {recipe} -o {tmp_path}/e.onnx", capsys, code=2
        )
        assert message in err


@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_other_activations_verify(
    activations: str, workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "e.onnx"
    run(
        f"export m.onnx -c m.calib.npz --activation-type {activations} "
        f"--tensor-in-16-bits block_2/pointwise/relu6/output -o {path}",
        capsys,
    )
    params = QuantizedModel.from_qdq(path).plan.params
    assert params["block_2/pointwise/relu6/output"].dtype.name == activations.replace("8", "16")
    assert params["block_3/pointwise/relu6/output"].dtype.name == activations
    out, _ = run(f"verify {path} --data e.npz --num-samples 4", capsys)
    # Nodes of 16 bits are floats in onnxruntime, so a code may be on the other side of a half.
    assert out.startswith("PASS: ")


def test_an_unknown_tensor_is_named(
    workbench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run(
        f"quantize m.onnx c.npz --tensor-in-16-bits pointwise -o {tmp_path}/e.onnx", capsys, code=2
    )
    assert "--tensor-in-16-bits: no activation is called 'pointwise'; did you mean block_1/" in err
