"""Golden vectors are right, whole, readable without quantkit, and notice a fault of one."""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import quantkit
from quantkit import bundled
from quantkit.errors import ConfigError, ModelError
from quantkit.evaluation.layer_codes import record_samples
from quantkit.exporters.contract import EXPORTERS, SAMPLE_FORMATS, LayerCodes
from quantkit.exporters.vectors import write_vectors
from quantkit.numerics.affine import QuantizedTensor, per_tensor
from quantkit.plan import make_plan
from quantkit.quantized_model.model import quantize_model
from tests.exporters.vector_checker import ARITHMETICS, read_layers, wrong_codes
from tests.small_networks import (
    NETWORKS,
    Network,
    calibrated,
    float_model,
    quantized,
    quantized_network,
)

CHECKED = (
    *("mobile", "residual", "average_with_border", "matmul", "two_activations", "max_pool"),
    *("movement", "grouped_1d", "two_inputs", "clip_inside_the_range", "float_island"),
)


MANY_OPS = """(float[N,3,5,5] x, float[4,3,2,2] w0, float[4] b0, float[4,3,2,2] w1, float[3] b1,
  float[3,6,1,1] w2, float[3,3,1,1] w3, float[1,3,1,1] k) => (float[N,3,5,5] y) {
  c = Conv(x, w0, b0)
  l = LeakyRelu<alpha = 0.1>(c)
  s = Sigmoid(l)
  m = Mul(l, s)
  t = ConvTranspose<strides = [1,1]>(m, w1, b1)
  q = Conv(t, w3)
  d = Sub(q, x)
  j = Concat<axis = 1>(d, x)
  e = Conv(j, w2)
  h = Tanh(e)
  y = Mul(h, k)
}"""


def test_every_kind_of_formula(tmp_path: Path) -> None:
    model, _ = quantized(Network(MANY_OPS, (3, 5, 5)))
    quantkit.export(model, tmp_path / "v", "vectors", num_samples=2)
    layers = list(read_layers(tmp_path / "v"))
    ops = {"Conv", "LeakyRelu", "Sigmoid", "Mul", "ConvTranspose", "Sub", "Concat", "Tanh"}
    assert {entry["op"] for entry, _ in layers} >= ops
    for entry, arrays in layers:
        assert wrong_codes(entry, arrays) == {name: [] for name in ARITHMETICS}, entry["node"]


def test_alpha_is_in_the_multiplier_and_not_in_the_sums(tmp_path: Path) -> None:
    """quantkit folds alpha into the weight; a file of another tool may have it."""
    text = "(float[N,9] x, float[4,9] w) => (float[N,4] y) { y = Gemm<transB=1>(x, w) }"
    model, _ = quantized(Network(text, (9,)))
    (node,) = model.prepared.program.nodes
    scaled = replace(node, attributes={**node.attributes, "alpha": 0.3})
    program = replace(model.prepared.program, nodes=(scaled,))
    model = replace(model, prepared=replace(model.prepared, program=program))
    quantkit.export(model, tmp_path / "v", "vectors")
    ((entry, arrays),) = read_layers(tmp_path / "v")
    assert wrong_codes(entry, arrays) == {name: [] for name in ARITHMETICS}


def test_left_shifts_are_those_of_the_arithmetic(tmp_path: Path) -> None:
    """Another shift with a multiplier to match would give other codes only once in a while."""
    quantkit.export(quantized_network("residual"), tmp_path / "v", "vectors")
    shifts = {
        entry["op"]: arrays["left_shift"].tolist()
        for entry, arrays in read_layers(tmp_path / "v")
        if "left_shift" in arrays
    }
    assert shifts == {"Add": 20, "AveragePool": [31 - (4 * 255).bit_length()]}


def test_16_bit_activations_have_64_bit_sums(tmp_path: Path) -> None:
    network = NETWORKS["grouped_1d"]
    prepared, table = calibrated(network.model(), network.input_shape)
    plan = make_plan(prepared, table)
    wide = {
        name: per_tensor(float(params.scale) / 250, 3, np.int16)
        for name, params in plan.params.items()
    }
    model = quantize_model(prepared, replace(plan, params=wide))
    quantkit.export(model, tmp_path / "v", "vectors")
    checked = 0
    for entry, arrays in read_layers(tmp_path / "v"):
        if entry["op"] in ("Conv", "MatMul"):
            assert arrays["accumulator"].dtype == np.int64
            assert wrong_codes(entry, arrays)["fixed_point"] == []
            checked += 1
    assert checked == 2


FAR_STRIDES = {
    "Conv": 'Conv<auto_pad = "SAME", strides = [5,6]>(x, w)',
    "AveragePool": 'AveragePool<kernel_shape = [1,2], auto_pad = "SAME", strides = [5,6]>(x)',
}


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", ["Conv", "AveragePool"])
def test_windows_that_lie_apart(op: str, auto_pad: str, tmp_path: Path) -> None:
    """The first window of SAME then begins within the input."""
    layer = FAR_STRIDES[op].replace("SAME", auto_pad)
    text = f"(float[N,2,10,11] x, float[4,2,1,2] w) => (float[N,C,H,W] y) {{ y = {layer} }}"
    # Before opset 19 onnxruntime refuses such an AveragePool.
    prepared, table = calibrated(float_model(text, opset=19), (2, 10, 11))
    model = quantize_model(prepared, make_plan(prepared, table))
    quantkit.export(model, tmp_path / "v", "vectors", num_samples=2)
    ((entry, arrays),) = read_layers(tmp_path / "v")
    assert arrays["pads"].min() < 0
    assert wrong_codes(entry, arrays) == {name: [] for name in ARITHMETICS}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("attributes", ["[5,6]", "[3,4], pads = [1,1,1,1], strides = [2,1]"])
def test_averages(attributes: str, dtype: type[np.integer], tmp_path: Path) -> None:
    """One window that covers the input has another formula than many; so have 16-bit codes."""
    text = f"""(float[N,60,5,6] x) => (float[N,60,H,W] y) {{
      y = AveragePool<kernel_shape = {attributes}>(x)
    }}"""
    prepared, table = calibrated(float_model(text), (60, 5, 6))
    plan = make_plan(prepared, table)
    # Ties where the zero point is odd: there the formulas differ.
    params = per_tensor(0.02, 133, dtype)
    plan = replace(plan, params=dict.fromkeys(plan.params, params))
    quantkit.export(quantize_model(prepared, plan), tmp_path / "v", "vectors", num_samples=3)
    ((entry, arrays),) = read_layers(tmp_path / "v")
    assert arrays["input_0"].dtype == dtype
    assert wrong_codes(entry, arrays, 300) == {name: [] for name in ARITHMETICS}


@pytest.mark.parametrize("name", CHECKED)
def test_every_layer_follows_from_its_file(name: str, tmp_path: Path) -> None:
    """120 codes of each layer, from the files alone."""
    model = quantized_network(name)
    quantkit.export(model, tmp_path / "v", "vectors")
    layers = list(read_layers(tmp_path / "v"))
    nodes = [node.name for node in model.prepared.program.nodes]
    assert [entry["node"] for entry, _ in layers] == [
        node for node in nodes if node not in model.plan.kept_float
    ]
    for entry, arrays in layers:
        assert wrong_codes(entry, arrays, 120) == {name: [] for name in ARITHMETICS}, entry["node"]


def test_a_network_of_27_layers_on_real_samples(tmp_path: Path) -> None:
    with bundled.folder() as digits:
        result = quantkit.quantize(
            digits / "digits_mobilenet.onnx", digits / "digits_calibration.npz"
        )
        quantkit.export(
            result.model,
            tmp_path / "v",
            "vectors",
            data=digits / "digits_evaluation.npz",
            num_samples=3,
        )
    layers = list(read_layers(tmp_path / "v"))
    assert len(layers) >= 20
    assert all(arrays["input_0"].shape[0] == 3 for _, arrays in layers)
    for entry, arrays in layers:
        assert wrong_codes(entry, arrays, 12) == {name: [] for name in ARITHMETICS}, entry["node"]
    # What a layer writes is what the next one reads.
    written = {entry["outputs"][0]: arrays["output_0_onnxruntime"] for entry, arrays in layers}
    for entry, arrays in layers:
        source = entry["inputs"][0]["name"]
        if source in written:
            np.testing.assert_array_equal(arrays["input_0"], written[source])


@pytest.mark.parametrize("array", ["bias", "weight_centred", "input_0_zero_point", "mantissa"])
def test_a_fault_of_one_is_noticed(array: str, tmp_path: Path) -> None:
    quantkit.export(quantized_network("mobile"), tmp_path / "v", "vectors")
    entry, arrays = next(
        (entry, arrays) for entry, arrays in read_layers(tmp_path / "v") if entry["op"] == "Gemm"
    )
    assert wrong_codes(entry, arrays)["fixed_point"] == []
    step = 2**24 if array == "mantissa" else 1
    arrays[array] = arrays[array] + arrays[array].dtype.type(step)
    if array == "mantissa":
        assert wrong_codes(entry, arrays)["fixed_point"]
    else:
        with pytest.raises(AssertionError):
            wrong_codes(entry, arrays)


def test_a_wrong_bias_in_the_model_makes_other_vectors(tmp_path: Path) -> None:
    """The files hold what the model computes: one bias off by one changes its accumulators."""
    model = quantized_network("mobile")
    name = next(name for name, tensor in model.constants.items() if tensor.data.dtype == np.int32)
    bias = model.constants[name]
    data = bias.data.copy()
    data[0] += 1
    wrong = replace(model, constants={**model.constants, name: QuantizedTensor(data, bias.params)})
    quantkit.export(model, tmp_path / "right", "vectors")
    quantkit.export(wrong, tmp_path / "wrong", "vectors")
    differing = [
        entry["node"]
        for (entry, right), (_, other) in zip(
            read_layers(tmp_path / "right"), read_layers(tmp_path / "wrong"), strict=True
        )
        if "accumulator" in right and (right["accumulator"] != other["accumulator"]).any()
    ]
    (reader,) = [node.name for node in model.prepared.program.nodes if name in node.inputs]
    assert differing[0] == reader


def test_random_inputs_reach_both_ends_and_repeat(tmp_path: Path) -> None:
    model = quantized_network("residual")
    for folder in ("a", "b"):
        quantkit.export(model, tmp_path / folder, "vectors", num_samples=2)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    _, first = next(read_layers(tmp_path / "a"))
    assert first["input_0"].shape[0] == 2
    for codes in first["input_0"]:
        assert (codes.min(), codes.max()) == (0, 255)
    index = json.loads((tmp_path / "a" / "index.json").read_text())
    assert "default_rng(0)" in index["samples"]
    assert (first["input_0"][0] != first["input_0"][1]).any()


def test_arrays_are_plain_and_little_endian(tmp_path: Path) -> None:
    quantkit.export(quantized_network("mobile"), tmp_path / "v", "vectors")
    for entry, arrays in read_layers(tmp_path / "v"):
        assert set(entry["arrays"]) == set(arrays)
        for name, array in arrays.items():
            assert array.dtype.kind in "iuf", name
            assert array.dtype.newbyteorder("<") == array.dtype
            assert entry["arrays"][name] == {
                "dtype": array.dtype.name,
                "shape": list(array.shape),
            }
        if entry["op"] == "Conv":
            assert arrays["accumulator"].dtype == arrays["bias"].dtype == np.int32
            assert arrays["mantissa"].shape == arrays["shift"].shape == arrays["multiplier"].shape
            assert arrays["weight"].dtype == np.int8
        if entry["op"] in ("Relu", "Clip"):
            assert arrays["table_fixed_point"].shape == (256,)


def test_the_readme_names_every_file_and_formula(tmp_path: Path) -> None:
    model = quantized_network("float_island")
    quantkit.export(model, tmp_path / "v", "vectors")
    text = (tmp_path / "v" / "README.md").read_text("utf-8")
    for entry, _ in read_layers(tmp_path / "v"):
        assert f"| {entry['file']} | {entry['node']} | {entry['op']} |" in text
        assert entry["formula"] in text
    assert "acc = bias[c] + sum(" in text
    assert "- island: " in text
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["mobile", "average_with_border", "residual", "movement"])
def test_the_readme_explains_every_array(name: str, tmp_path: Path) -> None:
    quantkit.export(quantized_network(name), tmp_path / "v", "vectors")
    table = (tmp_path / "v" / "README.md").read_text("utf-8").split("## Arrays")[1]
    explained = set(re.findall("`([^`]+)`", table.split("## Arithmetic")[0]))
    for _, arrays in read_layers(tmp_path / "v"):
        for array in arrays:
            plain = re.sub(r".*(_scale|_zero_point)$", r"*\1", re.sub(r"_\d", "_N", array))
            assert plain in explained, array


def test_sums_of_32_bits_wrap(tmp_path: Path) -> None:
    """The bias of a file of another tool may lie at the very end of int32."""
    model = quantized_network("mobile")
    ends = {
        name: QuantizedTensor(np.full_like(tensor.data, np.iinfo(np.int32).min), tensor.params)
        for name, tensor in model.constants.items()
        if tensor.data.dtype == np.int32
    }
    wrong = replace(model, constants={**model.constants, **ends})
    quantkit.export(wrong, tmp_path / "v", "vectors")
    assert "wraps modulo 2^32" in (tmp_path / "v" / "README.md").read_text("utf-8")
    assert json.loads((tmp_path / "v" / "index.json").read_text())["int32_sums"].startswith("wrap")
    has_wrapped = False
    for entry, arrays in read_layers(tmp_path / "v"):
        assert wrong_codes(entry, arrays) == {name: [] for name in ARITHMETICS}, entry["node"]
        has_wrapped |= "bias" in arrays and bool((arrays["accumulator"] > 0).any())
    assert has_wrapped


@pytest.mark.parametrize("name", ["mobile", "residual"])
def test_large_vectors_are_warned_of(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quantized_network(name)
    quantkit.export(model, tmp_path / "small", "vectors")
    assert not caplog.messages
    monkeypatch.setattr("quantkit.exporters.vectors._LARGE_MB", 1)
    quantkit.export(model, tmp_path / "v", "vectors", num_samples=1000)
    (message,) = caplog.messages
    expected = re.fullmatch("1000 samples make about ([0-9]+) MB of vectors; .*", message)
    assert expected is not None
    actual = sum(path.stat().st_size for path in (tmp_path / "v").iterdir()) / 1e6
    assert 0.8 * actual < int(expected[1]) < 1.2 * actual


def test_names_of_files_are_safe(tmp_path: Path) -> None:
    model = quantized_network("mobile")
    nodes = tuple(
        replace(node, name=f"../b{'ü' * index}\n/{node.name}")
        for index, node in enumerate(model.prepared.program.nodes)
    )
    prepared = replace(model.prepared, program=replace(model.prepared.program, nodes=nodes))
    quantkit.export(replace(model, prepared=prepared), tmp_path / "v", "vectors")
    for index, (entry, _) in enumerate(read_layers(tmp_path / "v")):
        assert entry["node"] == nodes[index].name
        assert entry["file"].isascii()
        assert entry["file"].startswith(f"{index:03d}_b")
        assert "/" not in entry["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_half_written_is_left(error: BaseException, tmp_path: Path) -> None:
    model = quantized_network("mobile")
    whole = record_samples(model, None)

    def interrupted() -> Iterator[LayerCodes]:
        yield from itertools.islice(whole.layers, 2)
        assert len(list(tmp_path.glob(".*/*.npz"))) == 2
        raise error

    expected = ModelError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_vectors(model, tmp_path / "v", replace(whole, layers=interrupted()))
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_not_touched(tmp_path: Path) -> None:
    model = quantized_network("matmul")
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ModelError, match="exists already; give the name of a new folder"):
        quantkit.export(model, folder, "vectors")
    shutil.rmtree(folder)
    folder.write_text("a file")
    with pytest.raises(ModelError, match="exists already"):
        quantkit.export(model, folder, "vectors")
    assert folder.read_text() == "a file"
    with pytest.raises(ModelError, match=r"cannot write .*No such file"):
        quantkit.export(model, tmp_path / "none" / "v", "vectors")


def test_samples_are_for_formats_that_hold_them(tmp_path: Path) -> None:
    model = quantized_network("matmul")
    assert set(EXPORTERS) >= SAMPLE_FORMATS
    with pytest.raises(ConfigError, match="'qdq' holds no samples"):
        quantkit.export(model, tmp_path / "m.onnx", data=np.zeros((1, 6, 10), np.float32))
    with pytest.raises(ConfigError, match="there are none"):
        write_vectors(model, tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


def test_every_network_can_be_exported(tmp_path: Path) -> None:
    for name in NETWORKS:
        quantkit.export(quantized_network(name), tmp_path / name, "vectors")
        assert (tmp_path / name / "README.md").exists()
