"""The bundled network and data beside everything a user can get wrong."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from PIL import Image

import quantkit
from quantkit import bundled
from quantkit.graph.program import Array
from tests.small_networks import float_model

DIGIT_SHAPE = (1, 8, 8)
CLASSES = 10


def fill(folder: Path) -> None:
    """Write good files (``m.onnx``, ``m8.onnx``, ``c.npz`` ...) and bad ones."""
    with bundled.folder() as source:
        shutil.copyfile(source / "digits_mobilenet.onnx", folder / "m.onnx")
        shutil.copyfile(source / "digits_calibration.npz", folder / "c.npz")
        shutil.copyfile(source / "digits_evaluation.npz", folder / "e.npz")
    result = quantkit.quantize(folder / "m.onnx", folder / "c.npz")
    result.save(folder / "m8.onnx")
    result.table.save(folder / "m.calib.npz")
    _bad_models(folder)
    _pictures(folder)
    _other_calibrations(folder)
    _bad_calibrations(folder)
    _arrays(folder)
    _labels(folder)
    (folder / "folder").mkdir()
    (folder / "wrong_key.toml").write_text("per_chanel = true\n")
    (folder / "no.toml").write_text("per_channel = [\n")
    (folder / "wrong_method.toml").write_text('range_estimator = "kl"\n')


def _bad_models(folder: Path) -> None:
    good, quantized = (folder / "m.onnx").read_bytes(), (folder / "m8.onnx").read_bytes()
    (folder / "text.onnx").write_text("this is no model")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "truncated.onnx").write_bytes(good[: len(good) // 2])
    (folder / "truncated8.onnx").write_bytes(quantized[: len(quantized) // 2])
    _edit_first_weight(folder, "nan.onnx", lambda weight: np.full_like(weight, np.nan))
    _edit_first_weight(folder, "inf.onnx", lambda weight: np.full_like(weight, np.inf))
    _edit_first_weight(folder, "other.onnx", lambda weight: weight * np.float32(1.5))
    text = "(float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) { y = Conv (x, w) }"
    text = text.replace(" x)", " x, float[4, 3, 3, 3] w)")
    ir.save(float_model(text), folder / "different.onnx")
    data = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    quantkit.quantize(folder / "different.onnx", data).save(folder / "different8.onnx")
    np.save(folder / "different.npy", data)


def _edit_first_weight(folder: Path, name: str, edit: Callable[[Array], Array]) -> None:
    model = ir.load(folder / "m.onnx")
    value = model.graph.initializers["stem/conv/weight"]
    assert value.const_value is not None
    array = edit(value.const_value.numpy())
    value.const_value = ir.tensor(array, name=value.name)
    ir.save(model, folder / name)


def _other_calibrations(folder: Path) -> None:
    """Of half the data, of another network, and with other preprocessing."""
    quantkit.calibrate(folder / "m.onnx", folder / "c.npz", num_samples=50).save(
        folder / "half.calib.npz"
    )
    quantkit.calibrate(folder / "different.onnx", folder / "different.npy").save(
        folder / "different.calib.npz"
    )
    quantkit.calibrate(folder / "m.onnx", folder / "pictures", preprocessing="raw").save(
        folder / "pictures.calib.npz"
    )
    shutil.copyfile(folder / "m.calib.npz", folder / "plot.png")


def _bad_calibrations(folder: Path) -> None:
    good = (folder / "m.calib.npz").read_bytes()
    (folder / "truncated.calib.npz").write_bytes(good[:4000])
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    (folder / "flipped.calib.npz").write_bytes(flipped)
    with zipfile.ZipFile(folder / "m.calib.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    members["metadata.json"] = json.dumps({**metadata, "schema_version": 99}).encode()
    with zipfile.ZipFile(folder / "newer.calib.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _pictures(folder: Path) -> None:
    for name in ("pictures", "one_bad", "all_bad"):
        (folder / name).mkdir()
    for index in range(3):
        grey = Image.fromarray(np.full((20, 20), 50 * index, np.uint8))
        grey.save(folder / "pictures" / f"{index}.png")
        grey.save(folder / "one_bad" / f"{index}.png")
    (folder / "one_bad" / "torn.png").write_bytes(b"no picture")
    (folder / "all_bad" / "torn.png").write_bytes(b"no picture")


def _arrays(folder: Path) -> None:
    good = np.load(folder / "c.npz")["input"]

    def save(name: str, **arrays: Array) -> None:
        np.savez(folder / name, allow_pickle=True, **arrays)

    save("three_channels.npz", input=np.zeros((2, 3, 8, 8), np.float32))
    save("nine_rows.npz", input=np.zeros((2, 1, 9, 8), np.float32))
    save("no_channels.npz", input=np.zeros((2, 8, 8), np.float32))
    save("two_inputs.npz", a=good, b=good)
    save("no_sample.npz", input=good[:0])
    save("objects.npz", input=np.array([None, {}], object))
    save("three_labels.npz", input=good[:2], label=np.zeros(3, np.int64))
    save("float_labels.npz", input=good[:2], label=np.zeros(2))
    for name, value in (("nan_data.npz", np.nan), ("inf_data.npz", np.inf)):
        bad = good.copy()
        bad[5, 0, 2, 2] = value
        save(name, input=bad)


def _labels(folder: Path) -> None:
    np.save(folder / "seven.npy", np.zeros(7, np.int64))
    np.save(folder / "floats.npy", np.zeros(497))
    for name, text in {
        "good.csv": "file,label\n0.png,1\n1.png,2\n2.png,3\n",
        "header.csv": "name,class\n0.png,1\n",
        "missing.csv": "file,label\n0.png,1\n1.png,2\n",
        "unknown.csv": "file,label\nzebra.png,1\n",
        "words.csv": "file,label\n0.png,cat\n",
        "too_big.csv": "file,label\n0.png,1\n1.png,2\n2.png,99\n",
        "no_lines.csv": "",
    }.items():
        (folder / name).write_text(text)
    (folder / "binary.csv").write_bytes(b"\xff\xfe\x00file")
