"""The public verbs in Python, and the examples in their docstrings."""

import doctest
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pytest

import quantkit
from quantkit import bundled, errors
from quantkit.errors import ConfigError, TableMismatchError, UnknownNameError
from quantkit.pipeline import quantization
from quantkit.recipes import RECIPES
from tests.reporting.networks import CLASSIFIER, ONLY_ISLANDS, TWO_OUTPUTS, samples, write


@pytest.mark.parametrize("module", [quantkit, quantization, errors])
def test_examples_run(module: ModuleType) -> None:
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0


def test_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bundled.folder() as folder:
        model, data = (folder / "digits_mobilenet.onnx", folder / "digits_calibration.npz")
        text = (model.read_bytes(), data.read_bytes())
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(text[0])
    Path("data.npz").write_bytes(text[1])
    script = 'import quantkit; q = quantkit.quantize("m.onnx", "data.npz"); q.save("m.int8.onnx")'
    exec(script, {})
    assert quantkit.verify("m.int8.onnx", "data.npz", num_samples=2).passed


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path, CLASSIFIER)


def test_every_kind_of_data_gives_the_same_table(files: tuple[Path, Path], tmp_path: Path) -> None:
    array = samples(5)
    np.save(tmp_path / "d.npy", array)
    np.savez(tmp_path / "d.npz", x=array)
    digests = {
        quantkit.calibrate(files[0], data).data_digest
        for data in (
            array,
            {"x": array},
            [{"x": array[:2]}, {"x": array[2:]}],
            tmp_path / "d.npy",
            str(tmp_path / "d.npz"),
        )
    }
    assert len(digests) == 1


@pytest.mark.parametrize("recipe", ["fast", "balanced"])
def test_quantize_is_calibrate_and_quantize_calibrated(
    files: tuple[Path, Path], recipe: str
) -> None:
    config = RECIPES[recipe]
    once = quantkit.quantize(files[0], samples(8), config=config)
    table = quantkit.calibrate(files[0], samples(8))
    again = quantkit.quantize_calibrated(files[0], table, config, data=samples(8))
    assert once.table.model_name == table.model_name == "float.onnx"
    for name, tensor in once.model.constants.items():
        np.testing.assert_array_equal(tensor.data, again.model.constants[name].data)
    assert dict(once.model.metadata) == dict(again.model.metadata)
    assert once.model.notes == again.model.notes


def test_the_default_recipes(files: tuple[Path, Path]) -> None:
    table = quantkit.calibrate(files[0], samples(8))
    named = {
        "balanced": quantkit.quantize(files[0], samples(8)),
        "fast": quantkit.quantize_calibrated(files[0], table),
    }
    for name, found in named.items():
        assert found.model.metadata["config"] == RECIPES[name].model_dump_json()


def test_a_recipe_that_needs_data_and_has_none(files: tuple[Path, Path]) -> None:
    table = quantkit.calibrate(files[0], samples(4))
    config = quantkit.QuantConfig(activation_range_search=True, learned_rounding=True)
    with pytest.raises(ConfigError, match="activation_range_search, learned_rounding: runs the"):
        quantkit.quantize_calibrated(files[0], table, config)


def test_a_stream_is_read_once(files: tuple[Path, Path]) -> None:
    """Recipes read the samples several times, a reader gives them once."""

    def stream() -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        for sample in samples(8):
            yield {"x": sample[None]}

    once = quantkit.quantize(files[0], stream())
    again = quantkit.quantize(files[0], samples(8))
    assert once.table.data_digest == again.table.data_digest
    for name, tensor in once.model.constants.items():
        np.testing.assert_array_equal(tensor.data, again.model.constants[name].data)


def test_a_prepared_model_is_taken_too(files: tuple[Path, Path]) -> None:
    prepared = quantkit.prepare(files[0])
    table = quantkit.calibrate(prepared, samples(8))
    assert table.model_name == ""
    assert quantkit.quantize_calibrated(prepared, table).table is table


def test_the_table_of_another_model(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = write(tmp_path / "other", TWO_OUTPUTS)
    table = quantkit.calibrate(files[0], samples(4))
    with pytest.raises(TableMismatchError, match=r"made for another model \('float.onnx'"):
        quantkit.quantize_calibrated(other, table)


def test_wrong_names_are_told_before_the_data_are_read(files: tuple[Path, Path]) -> None:
    class Untouchable(list[dict[str, object]]):
        def __iter__(self) -> NoReturn:
            pytest.fail("the data were read")

    config = quantkit.QuantConfig(nodes_to_exclude=("nope",))
    with pytest.raises(ConfigError, match="no node is called 'nope'"):
        quantkit.quantize(files[0], Untouchable(), config=config)


def test_unknown_formats(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = quantkit.quantize(files[0], samples(4))
    with pytest.raises(UnknownNameError, match="unknown export format 'tflight'; known: qdq"):
        result.save(tmp_path / "o", format="tflight")
    with pytest.raises(UnknownNameError, match="unknown export format 'tflight'"):
        quantkit.export(result.model, tmp_path / "o", format="tflight")
    assert not (tmp_path / "o").exists()


def test_a_quantized_model_is_exported_again(files: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "again.onnx"
    quantkit.export(quantkit.load_quantized(files[1]), output)
    assert quantkit.verify(output, samples(2)).passed


def test_16_samples_of_a_stream_are_verified(files: tuple[Path, Path]) -> None:
    asked = 0

    def endless() -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        nonlocal asked
        while True:
            asked += 1
            yield {"x": samples(1)}

    def progress(done: int, total: int) -> None:
        totals.add(total)

    totals: set[int] = set()
    assert quantkit.verify(files[1], endless(), progress=progress).passed
    assert quantkit.verify(files[1], samples(40), progress=progress).passed
    assert asked == 16
    assert totals == {16}


def test_a_network_that_stays_float_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, ONLY_ISLANDS)
    assert "nothing is quantized: every node stays float" in caplog.text


def test_the_models_own_preprocessing_is_used_unless_given(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    from PIL import Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(pictures / f"{index}.png")
    tf, unit = quantkit.PRESETS["tf"], quantkit.PRESETS["unit"]
    output = tmp_path / "tf.onnx"
    quantkit.quantize(files[0], pictures, preprocessing=tf).save(output)

    def codes(preprocessing: quantkit.Preprocessing | None) -> list[int]:
        found = quantkit.verify(output, pictures, preprocessing=preprocessing)
        return [layer.isolated.saturated for layer in found.layers]

    def sqnr(preprocessing: quantkit.Preprocessing | None) -> float:
        found = quantkit.report(files[0], output, pictures, preprocessing=preprocessing)
        return found.engines[1].sqnr_db["scores"]

    assert codes(None) == codes(tf) != codes(unit)
    assert sqnr(None) == sqnr(tf) != sqnr(unit)
