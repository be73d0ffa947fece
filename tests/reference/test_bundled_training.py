from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from calib_data import train_digits
from quantkit.reference import mobilenet
from quantkit.reference.arrays import FloatArray
from tests.reference.oracles import AnyArray, assert_close

FOLDER = Path(train_digits.__file__).parent


def run(model: Path, x: FloatArray) -> FloatArray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": x})
    result: FloatArray = logits
    return result


def onnx_accuracy(folder: Path) -> float:
    with np.load(folder / "digits_evaluation.npz") as evaluation:
        logits = run(folder / "digits_mobilenet.onnx", evaluation["input"])
        return float(np.mean(logits.argmax(axis=1) == evaluation["label"]))


def bundled_parameters() -> dict[str, FloatArray]:
    graph = ir.load(FOLDER / "digits_mobilenet.onnx").graph
    return {
        name: value.const_value.numpy()
        for name, value in graph.initializers.items()
        if value.const_value is not None
    }


def digests(x: AnyArray) -> set[bytes]:
    return {picture.tobytes() for picture in x}


def test_data_files_hold_the_split() -> None:
    training, calibration, evaluation = train_digits.load_split()
    with np.load(FOLDER / "digits_calibration.npz") as bundled:
        assert set(bundled) == {"input"}
        assert bundled["input"].shape == (100, 1, 8, 8)
        assert bundled["input"].dtype == np.float32
        np.testing.assert_array_equal(bundled["input"], calibration.input)
    with np.load(FOLDER / "digits_evaluation.npz") as bundled:
        assert set(bundled) == {"input", "label"}
        assert bundled["input"].shape == (497, 1, 8, 8)
        assert bundled["input"].dtype == np.float32
        assert bundled["label"].dtype == np.int64
        np.testing.assert_array_equal(bundled["input"], evaluation.input)
        np.testing.assert_array_equal(bundled["label"], evaluation.label)
    assert training.input.shape == (1200, 1, 8, 8)
    for pictures in (training, calibration, evaluation):
        assert pictures.input.min() == 0
        assert pictures.input.max() == 1


def test_no_picture_is_in_two_sets() -> None:
    sets = [digests(pictures.input) for pictures in train_digits.load_split()]
    assert [len(each) for each in sets] == [1200, 100, 497]
    assert len(set.union(*sets)) == 1797


def test_bundled_model_is_a_mobilenet_with_unfolded_batch_normalization() -> None:
    path = FOLDER / "digits_mobilenet.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = ir.load(path)
    assert (model.ir_version, model.graph.opset_imports[""]) == (8, 17)
    (x,), (logits,) = model.graph.inputs, model.graph.outputs
    assert (x.name, str(x.shape), x.dtype) == ("input", "[N,1,8,8]", ir.DataType.FLOAT)
    assert (logits.name, str(logits.shape)) == ("logits", "[N,10]")
    layers = train_digits.SPEC.layers()
    body = ["Conv", "BatchNormalization", "Clip"] * len(layers)
    op_types = [node.op_type for node in model.graph]
    assert op_types == [*body, "GlobalAveragePool", "Flatten", "Gemm"]
    names = [node.name for node in model.graph]
    assert {"stem/conv", "block_2/depthwise/conv", "block_2/depthwise/bn"} <= set(names)


def test_bundled_model_is_accurate() -> None:
    assert onnx_accuracy(FOLDER) >= 0.97


def test_the_float_reference_equals_onnxruntime_on_the_bundled_model() -> None:
    with np.load(FOLDER / "digits_evaluation.npz") as evaluation:
        x = evaluation["input"]
    logits = mobilenet.forward(train_digits.SPEC, bundled_parameters(), x)
    assert_close(logits, run(FOLDER / "digits_mobilenet.onnx", x), relative=1e-4)


def test_one_weight_scale_per_tensor_would_damage_the_bundled_model() -> None:
    """The property the demo shows; int8 weights only, activations stay float."""
    _, _, evaluation = train_digits.load_split()
    parameters = bundled_parameters()

    def accuracy(*, per_channel: bool) -> float:
        quantized = dict(parameters)
        for layer in train_digits.SPEC.layers():
            name = f"{layer.name}/conv/weight"
            scale, var = (parameters[f"{layer.name}/bn/{v}"] for v in ("scale", "running_var"))
            factor = (scale / np.sqrt(var + train_digits.SPEC.epsilon)).reshape(-1, 1, 1, 1)
            folded = parameters[name] * factor
            axes = (1, 2, 3) if per_channel else (0, 1, 2, 3)
            step = np.abs(folded).max(axis=axes, keepdims=True) / 127
            quantized[name] = np.rint(folded / step) * step / factor
        return train_digits.accuracy(quantized, evaluation)

    float_accuracy = train_digits.accuracy(parameters, evaluation)
    assert accuracy(per_channel=True) >= float_accuracy - 0.005
    assert accuracy(per_channel=False) <= float_accuracy - 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_shifts_move_pictures_by_at_most_one_pixel(seed: int) -> None:
    x = np.zeros((200, 1, 8, 8), np.float32)
    x[:, 0, 3, 4] = 1
    moved = train_digits.shift_randomly(x, np.random.default_rng(seed))
    assert moved.shape == x.shape
    assert moved.dtype == x.dtype
    _, _, rows, columns = np.nonzero(moved)
    assert len(rows) == 200
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (row, column) for row in (2, 3, 4) for column in (3, 4, 5)
    }


@pytest.mark.slow
def test_retraining_reaches_the_bundled_accuracy(tmp_path: Path) -> None:
    training, _, _ = train_digits.load_split()
    train_digits.write_files(train_digits.train(training), tmp_path)
    assert onnx_accuracy(tmp_path) == pytest.approx(onnx_accuracy(FOLDER), abs=0.005)
