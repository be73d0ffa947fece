"""The preparation as a whole, on tiny models, on the zoo and on ONNX's own node cases."""

import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from quantkit.errors import (
    ModelError,
    NonFiniteRangeError,
    QuantkitError,
    UnsupportedModelError,
)
from quantkit.graph.model_io import load_model, model_digest, save_model
from quantkit.passes.prepare import PREPARE_PASSES, prepare
from tests.models import GOLDEN_MODELS, batch_norm_weights, conv_bn_relu6, network, normal
from tests.passes.checks import (
    assert_ends_unchanged,
    assert_outputs_close,
    assert_prepared,
    op_types,
    random_feeds,
    run_unoptimized,
)
from tests.passes.printer import print_prepared

ZOO_MODELS = (
    "ad_autoencoder",
    "hand_landmark",
    "kws_dscnn",
    "mobilenet_v1_025",
    "mobilenet_v2",
    "ppocr_cls",
    "ppocr_det",
    "resnet8_cifar10",
    "vww_mobilenet_v1",
)


@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_golden(name: str, repository: Path, update_golden: bool) -> None:
    text = print_prepared(assert_prepared(GOLDEN_MODELS[name]()))
    path = repository / "tests" / "golden" / f"prepared_{name}.txt"
    if update_golden:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ZOO_MODELS)
def test_zoo(name: str, zoo: Path) -> None:
    source = load_model(zoo / "models" / f"{name}.onnx")
    prepared = prepare(source)
    assert_ends_unchanged(source, prepared.model)
    assert "BatchNormalization" not in op_types(prepared)
    feeds = random_feeds(source, batch=1, extent=64)
    # The absolute part is for sigmoid outputs near 0, where float32 itself keeps no more.
    assert_outputs_close(
        run_unoptimized(prepared.model, feeds),
        run_unoptimized(source, feeds),
        relative=1e-5,
        absolute=1e-6,
    )


@pytest.mark.slow
def test_onnx_node_cases(capsys: pytest.CaptureFixture[str]) -> None:
    """No crash, and the same function wherever onnxruntime runs ONNX's own node cases."""
    counts: Counter[str] = Counter()
    wrong = []
    for case in _node_cases():
        result = _try_case(case)
        counts[result.split(":")[0]] += 1
        if result.startswith("WRONG"):
            wrong.append(f"{case.name} {result}")
    with capsys.disabled():
        sys.stdout.write(f"\nONNX node cases: {dict(counts)}\n")
    assert not wrong
    assert counts["same"] > 1500


def _node_cases() -> list[TestCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow on purpose
        return list(collect_testcases(None))


def _try_case(case: TestCase) -> str:
    assert case.model is not None
    assert case.data_sets is not None
    source = ir.from_proto(case.model)
    before = ir.to_proto(source).SerializeToString(deterministic=True)
    try:
        prepared = prepare(source)
    except UnsupportedModelError as error:
        return "already quantized" if "quantized" in str(error) else f"opset refused: {error}"
    if ir.to_proto(source).SerializeToString(deterministic=True) != before:
        return "WRONG: the source was changed"
    names = [value.name for value in case.model.graph.input]
    given_inputs = case.data_sets[0][0]
    feeds: dict[str, Any] = {
        name: np.asarray(value) if np.isscalar(value) else value
        for name, value in zip(names, given_inputs, strict=False)
        if value is not None
    }
    try:
        expected = run_unoptimized(source, feeds)
    except Exception:
        return "onnxruntime cannot run the source"
    try:
        got = run_unoptimized(prepared.model, feeds)
    except Exception as error:
        return f"WRONG: {error}"
    return "same" if _equal(got, expected) else "WRONG: other outputs"


def _equal(got: object, expected: object) -> bool:
    if isinstance(expected, list):
        return isinstance(got, list) and all(
            _equal(one, other) for one, other in zip(got, expected, strict=True)
        )
    if expected is None:
        return got is None
    one, other = np.asarray(got), np.asarray(expected)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if other.dtype.kind != "f":
        return bool((one == other).all())
    finite = np.abs(other[np.isfinite(other)].astype(np.float64))
    relative = max(1e-5, 2 * float(np.finfo(other.dtype).eps))
    bound = relative * float(finite.max(initial=0.0))
    return bool(np.allclose(one, other, rtol=0, atol=bound, equal_nan=True))


@st.composite
def small_models(draw: st.DrawFn) -> ir.Model:
    """A chain of blocks as networks have them, with every switch that a pass looks at."""
    lines, weights = [], {}
    channels, current = 3, "x"
    length = draw(st.integers(1, 5))
    for index in range(length):
        kind = draw(
            st.sampled_from(
                ["conv", "transpose", "bn", "relu", "clip", "pad", "identity", "dropout", "add"]
            )
        )
        new = f"v{index}"
        if kind == "conv":
            group = draw(st.sampled_from([1, channels]))
            out = group * draw(st.integers(1, 2))
            weights[f"w{index}"] = normal(out, channels // group, 3, 3, seed=index)
            bias = ""
            if draw(st.booleans()):
                weights[f"b{index}"] = normal(out, seed=index)
                bias = f", b{index}"
            pad = draw(st.sampled_from(['auto_pad = "SAME_UPPER"', "pads = [1, 1, 1, 1]"]))
            lines.append(f"{new} = Conv <group = {group}, {pad}> ({current}, w{index}{bias})")
            channels = out
        elif kind == "transpose":
            group = draw(st.sampled_from([1, channels]))
            out = draw(st.integers(1, 2))
            weights[f"w{index}"] = normal(channels, out, 2, 2, seed=index)
            lines.append(f"{new} = ConvTranspose <group = {group}> ({current}, w{index})")
            channels = out * group
        elif kind == "bn":
            weights |= batch_norm_weights(channels, prefix=f"p{index}_")
            names = ", ".join(f"p{index}_{n}" for n in ("gamma", "beta", "mean", "variance"))
            epsilon = draw(st.sampled_from([1e-5, 1e-3, 0.5]))
            lines.append(f"{new} = BatchNormalization <epsilon = {epsilon}> ({current}, {names})")
        elif kind == "clip":
            weights[f"low{index}"] = np.array(draw(st.sampled_from([0, -1])), np.float32)
            weights[f"high{index}"] = np.array(draw(st.sampled_from([6, 1])), np.float32)
            lines.append(f"{new} = Clip ({current}, low{index}, high{index})")
        elif kind == "pad":
            sizes = draw(st.lists(st.integers(-1, 2), min_size=4, max_size=4))
            pads = np.array([0, 0, *sizes[:2], 0, 0, *sizes[2:]], np.int64)
            weights[f"pads{index}"] = pads
            mode = draw(st.sampled_from(["constant", "edge"]))
            lines.append(f'{new} = Pad <mode = "{mode}"> ({current}, pads{index})')
        elif kind == "add":
            lines.append(f"{new} = Add ({current}, {current})")
        else:
            name = {"relu": "Relu", "identity": "Identity", "dropout": "Dropout"}[kind]
            lines.append(f"{new} = {name} ({current})")
        current = new
    outputs = f"float[N,A,B,C] {current}"
    inner = draw(st.integers(0, length - 1))
    if inner < length - 1 and draw(st.booleans()):
        outputs += f", float[N,D,E,F] v{inner}"
    return network("\n".join(lines), weights, outputs=outputs)


@given(small_models())
def test_any_chain_keeps_its_function(model: ir.Model) -> None:
    assert_prepared(model, relative=2e-5)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 17, 21])
def test_every_opset(opset: int) -> None:
    bounds = "<min = 0.0, max = 6.0> (n)" if opset < 11 else "(n, low, high)"
    weights = {"w": normal(4, 3, 3, 3), **batch_norm_weights(4), "v": normal(4, 5)}
    weights |= {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    model = network(
        f"""
        c = Conv (x, w)
        n = BatchNormalization (c, gamma, beta, mean, variance)
        r = Clip {bounds}
        p = GlobalAveragePool (r)
        f = Flatten (p)
        m = MatMul (f, v)
        y = Softmax <axis = 1> (m)
        """,
        weights if opset >= 11 else {k: v for k, v in weights.items() if k not in ("low", "high")},
        outputs="float[N,5] y",
        opset=opset,
    )
    prepared = assert_prepared(model)
    assert prepared.model.opset_imports[""] == max(opset, 13)
    assert op_types(prepared)[:2] == ["Conv", "Clip"]
    raised = [note.message for note in prepared.notes if note.pass_name == "raise_opset"]
    wanted = [f"opset {opset} -> 13: per-channel DequantizeLinear needs it"] if opset < 13 else []
    assert raised == wanted


def test_initializers_that_are_inputs_of_ir_version_3_are_constants() -> None:
    model = network(
        "c = Conv (x, w)\n y = BatchNormalization (c, gamma, beta, mean, variance)",
        {"w": normal(2, 3, 1, 1), **batch_norm_weights(2)},
        inputs="float[N,3,8,8] x, float[2,3,1,1] w",
        opset=9,
        ir_version=3,
    )
    for name in ("gamma", "beta", "mean", "variance"):
        model.graph.inputs.append(model.graph.initializers[name])
    prepared = prepare(model)
    assert op_types(prepared) == ["Conv"]
    assert [value.name for value in prepared.model.graph.inputs] == ["x"]


def test_local_functions_are_inlined() -> None:
    model = ir.from_onnx_text(
        """
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        network (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = local.twice (x) }
        <opset_import: ["" : 17], domain: "local">
        twice (a) => (b) { two = Constant <value_float = 2.0> () b = Mul (a, two) }
        """
    )
    prepared = assert_prepared(model)
    assert op_types(prepared) == ["Mul"]


def test_branches_keep_their_graphs() -> None:
    model = ir.from_onnx_text(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        network (float[N,3] x) => (float[N,3] y) {
            limit = Constant <value_float = 1.0> ()
            axes = Constant <value_ints = [0, 1]> ()
            total = ReduceSum <keepdims = 0> (x, axes)
            is_large = Greater (total, limit)
            y = If (is_large) <
                then_branch = large () => (float[N,3] a) { a = Mul (x, limit) },
                else_branch = small () => (float[N,3] b) {
                    half = Constant <value_float = 0.5> ()
                    b = Mul (x, half)
                }
            >
        }
        """
    )
    for value in (-1.0, 1.0):
        _ = assert_prepared(model, feeds={"x": np.full((2, 3), value, np.float32)})


def test_in_memory_external_data_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantkit.graph.model_io._EMBED_LIMIT_BYTES", 1)
    save_model(conv_bn_relu6(), tmp_path / "m.onnx")
    monkeypatch.undo()
    prepared = prepare(ir.load(tmp_path / "m.onnx"))
    feeds = random_feeds(conv_bn_relu6())
    assert_outputs_close(
        run_unoptimized(prepared.model, feeds),
        run_unoptimized(conv_bn_relu6(), feeds),
        relative=1e-5,
        absolute=0.0,
    )


def test_a_path_and_a_model_give_the_same(tmp_path: Path) -> None:
    save_model(conv_bn_relu6(), tmp_path / "m.onnx")
    from_path, from_model = prepare(tmp_path / "m.onnx"), prepare(conv_bn_relu6())
    assert from_path.digest == from_model.digest
    assert model_digest(from_path.model) == model_digest(from_model.model)
    assert from_path.digest != model_digest(conv_bn_relu6()), "the preparation has its version"


def test_quantized_models_are_refused() -> None:
    model = network(
        "q = QuantizeLinear (x, s, z)\n y = DequantizeLinear (q, s, z)",
        {"s": np.array(0.1, np.float32), "z": np.array(3, np.uint8)},
    )
    with pytest.raises(UnsupportedModelError, match=r"already quantized \(2 quantized nodes"):
        _ = prepare(model)


def test_non_finite_weights_in_memory_are_refused() -> None:
    model = network("y = Conv (x, w)", {"w": np.full((1, 3, 1, 1), np.nan, np.float32)})
    with pytest.raises(NonFiniteRangeError, match="weight 'w' of shape"):
        _ = prepare(model)


def test_errors_are_of_one_tree() -> None:
    assert issubclass(ModelError, QuantkitError)
    with pytest.raises(ModelError, match="does not exist"):
        _ = prepare("no such file.onnx")


def test_passes_are_functions_named_like_their_files() -> None:
    for run in PREPARE_PASSES:
        name = getattr(run, "__name__", "")
        assert getattr(run, "__module__", "") == f"quantkit.passes.{name}"
