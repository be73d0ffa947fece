"""int8 and 16-bit activations: what the plan says, and that onnxruntime computes it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.config import QuantConfig
from quantkit.errors import ConfigError
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.ort_session import open_session
from quantkit.graph.program import Array
from quantkit.integer_session import open_integer_session
from quantkit.numerics.metrics import sqnr_db
from quantkit.passes.prepare import prepare
from quantkit.pipeline import quantize
from quantkit.plan import activation_dtype, make_plan, params_of_range
from quantkit.quantized_model.model import QuantizedModel, quantize_model
from quantkit.range_estimators.contract import Range
from tests.small_networks import NETWORKS, Network, calibrated, onnxruntime_outputs, quantized

INT8 = QuantConfig(activation_type="int8")
# Depthwise separable, as in keyword spotting.
DS_CNN = Network(
    """(float[N,1,12,10] x, float[8,1,3,3] w0, float[8] b0, float[8,1,3,3] w1, float[8] b1,
      float[12,8,1,1] w2, float[12] b2, float[12,1,3,3] w3, float[12] b3, float[12,12,1,1] w4,
      float[12] b4, float[5,12] w5, float[5] b5) => (float[N,5] y) {
      [stem] c0 = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w0, b0)
      r0 = Relu(c0)
      [depthwise] c1 = Conv<pads = [1,1,1,1], group = 8>(r0, w1, b1)
      r1 = Relu(c1)
      [pointwise] c2 = Conv(r1, w2, b2)
      r2 = Relu(c2)
      [depthwise2] c3 = Conv<pads = [1,1,1,1], group = 12>(r2, w3, b3)
      r3 = Relu(c3)
      [pointwise2] c4 = Conv(r3, w4, b4)
      r4 = Relu(c4)
      p = GlobalAveragePool(r4)
      f = Flatten(p)
      [classifier] y = Gemm<transB = 1>(f, w5, b5)
    }""",
    (1, 12, 10),
)


def codes_apart(
    model: QuantizedModel, ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> float:
    """The largest difference of outputs, in steps of their codes (floats: of 1e-5 of the whole)."""
    apart = 0.0
    for name, array in ours.items():
        params = model.plan.params.get(name)
        step = 1e-5 * np.abs(array).max() if params is None else float(params.scale)
        apart = max(apart, float(np.abs(array - theirs[name]).max()) / step)
    return apart


def test_the_dtypes() -> None:
    wide = {kind: activation_dtype(QuantConfig(activation_type=kind), is_wide=True).name
            for kind in ("uint8", "int8")}  # fmt: skip
    assert wide == {"uint8": "uint16", "int8": "int16"}
    assert activation_dtype(INT8) == np.int8


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_codes_are_symmetric(dtype: type[np.signedinteger]) -> None:
    for low, high in ((0.0, 3.0), (-3.0, 1.0), (-1.0, 3.0)):
        params = params_of_range(Range(low, high, ""), np.dtype(dtype))
        assert int(params.zero_point) == 0
        assert params.scale == np.float32(3.0 / np.iinfo(dtype).max)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_activation_is_int8_with_zero_point_0(name: str) -> None:
    model = quantized(NETWORKS[name], INT8)[0]
    assert model.plan.params
    for value, params in model.plan.params.items():
        assert (params.dtype.name, int(params.zero_point)) == ("int8", 0), value


def test_fixed_outputs_have_a_power_of_two() -> None:
    network = NETWORKS["softmax"]
    for kind, wide, scale in (
        ("int8", (), 2**-7),
        ("int8", ("y",), 2**-15),
        ("uint8", (), 2**-8),
        ("uint8", ("y",), 2**-16),
    ):
        config = QuantConfig.model_validate({"activation_type": kind, "tensors_in_16_bits": wide})
        params = quantized(network, config)[0].plan.params["y"]
        assert (float(params.scale), int(params.zero_point)) == (scale, 0)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_int8_equals_onnxruntimes_int8_kernels(name: str) -> None:
    network = NETWORKS[name]
    model = quantized(network, INT8)[0]
    feeds = network.feeds(3)
    ours = open_integer_session(model).run(feeds)
    theirs = open_session(qdq_graph(model), threads=1, int8_kernels=True).run(feeds)
    # What onnxruntime computes in floats may be one code off.
    allowed = 1.01 if network.float_in_onnxruntime or network.kept_float else 0.01
    assert codes_apart(model, ours, theirs) <= allowed


def test_a_clamp_stays_where_saturation_is_none() -> None:
    ops = [node.op_type for node in qdq_graph(quantized(DS_CNN, INT8)[0]).graph]
    assert ops.count("Relu") == 5
    assert "Relu" not in [node.op_type for node in qdq_graph(quantized(DS_CNN)[0]).graph]


def test_16_bits_go_to_all_that_share_the_parameters() -> None:
    for named in ("c1", "r1"):
        params = quantized(DS_CNN, QuantConfig(tensors_in_16_bits=(named,)))[0].plan.params
        wide = {name for name, each in params.items() if each.dtype == np.uint16}
        assert wide == {"c1", "r1"}
        assert {each.dtype.name for name, each in params.items() if name not in wide} == {"uint8"}
    model = quantized(DS_CNN, QuantConfig(tensors_in_16_bits=("r1",)))[0]
    assert model.constants["b2"].data.dtype == np.int64
    assert model.constants["b3"].data.dtype == np.int32


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_two_tensors_in_16_bits_bring_the_output_nearer(kind: str) -> None:
    feeds = DS_CNN.feeds(16)
    reference = onnxruntime_outputs(DS_CNN.model(), feeds)["y"]
    quality: list[float] = []
    for wide in ((), ("x", "p")):
        config = QuantConfig.model_validate({"activation_type": kind, "tensors_in_16_bits": wide})
        model = quantized(DS_CNN, config)[0]
        ours = open_integer_session(model).run(feeds)
        exact = open_integer_session(model, strict_integer=True).run(feeds)
        theirs = open_session(qdq_graph(model), threads=1, int8_kernels=True).run(feeds)
        assert np.array_equal(ours["y"], exact["y"])
        assert codes_apart(model, ours, theirs) <= (1.01 if wide else 0.01)
        quality.append(sqnr_db(reference, ours["y"]))
    assert quality[1] > quality[0] + 0.2


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_op_takes_mixed_codes(name: str, kind: str) -> None:
    network = NETWORKS[name]
    prepared, table = calibrated(network.model(), network.input_shape)
    feeds = network.feeds(2)
    values = list(make_plan(prepared, table).params)
    for wide in (values[::2], values[1::2], values[-1:]):
        config = QuantConfig.model_validate(
            {"activation_type": kind, "tensors_in_16_bits": tuple(wide)}
        )
        model = quantize_model(prepared, make_plan(prepared, table, config), config)
        ours = open_integer_session(model).run(feeds)
        unfused = open_session(qdq_graph(model), threads=1, optimized=False).run(feeds)
        is_wide = any(
            model.plan.params[n].dtype.itemsize == 2 for n in ours if n in model.plan.params
        )
        assert codes_apart(model, ours, unfused) <= (4.01 if is_wide else 1.01), wide


@pytest.mark.parametrize("wide", [(), ("x",), ("y",), ("x", "y")])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_a_pool_that_averages_to_almost_nothing_runs(
    kind: str, wide: tuple[str, ...], tmp_path: Path
) -> None:
    text = "(float[N, 3, 4, 4] x) => (float[N, 3, 1, 1] y) { [pool] y = GlobalAveragePool(x) }"
    ir.save(Network(text, (3, 4, 4)).model(), tmp_path / "m.onnx")
    x = np.tile(np.array([[1, -1], [-1, 1]], np.float32), (4, 3, 2, 2)) + np.float32(1e-6)
    config = QuantConfig.model_validate({"activation_type": kind, "tensors_in_16_bits": wide})
    model = quantize(tmp_path / "m.onnx", x, config=config).model
    assert model.plan.kept_float == {}
    ours = open_integer_session(model).run({"x": x})
    theirs = open_session(qdq_graph(model), int8_kernels=True).run({"x": x})
    assert codes_apart(model, ours, theirs) <= 1.01


def test_sums_of_a_wide_second_operand_have_48_bits() -> None:
    """1000 products of 8-bit with 16-bit codes leave int32, whichever operand has 16 bits."""
    network = Network(
        "(float[N,4,1000] x, float[N,1000,4] x2) => (float[N,4,4] y) { y = MatMul(x, x2) }", ()
    )
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(8, 4, 1000)), "x2": rng.normal(size=(8, 1000, 4))}
    data = {name: array.astype(np.float32) for name, array in feeds.items()}
    for wide in ("x", "x2"):
        config = QuantConfig(tensors_in_16_bits=(wide,))
        model = quantize_two(network, data, config)
        assert 2**31 < model.accumulator_bounds[next(iter(model.accumulator_bounds))] < 2**47
        ours = open_integer_session(model).run(data)
        theirs = open_session(qdq_graph(model), threads=1).run(data)
        assert codes_apart(model, ours, theirs) <= 1.01


def quantize_two(
    network: Network, data: Mapping[str, Array], config: QuantConfig
) -> QuantizedModel:
    samples = [{name: array[i : i + 1] for name, array in data.items()} for i in range(8)]
    return quantize(prepare(network.model()), samples, config=config).model


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("R1", r"--tensor-in-16-bits: no activation is called 'R1'; did you mean r1\?"),
        ("relu77", "no activation is called 'relu77'; `quantkit show` lists the names"),
        ("w1", "'w1' is a constant that is no operand of an activation; weights have 8 bits"),
    ],
)
def test_unknown_tensors_are_errors(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quantized(DS_CNN, QuantConfig(tensors_in_16_bits=(name,)))


def test_a_tensor_that_stays_float_has_no_codes() -> None:
    config = QuantConfig(tensors_in_16_bits=("y",), nodes_to_exclude=("classifier",))
    assert "y" not in quantized(DS_CNN, config)[0].plan.params
