"""Loading, checking, saving and digesting models."""

import os
import stat
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from quantkit.errors import ModelError, NonFiniteRangeError, UnsupportedModelError
from quantkit.graph.model_io import (
    load_model,
    model_digest,
    program_of,
    raise_opset,
    read_metadata,
    save_model,
    write_metadata,
)
from quantkit.graph.ort_session import open_session
from quantkit.graph.partial_file import partial_file
from tests.models import conv_bn_relu6, network, normal

CONV = "y = Conv (x, w)"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    save_model(conv_bn_relu6(), path)
    return path


@pytest.fixture
def external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose tensors are in ``external.onnx.data``."""
    monkeypatch.setattr("quantkit.graph.model_io._EMBED_LIMIT_BYTES", 1)
    path = tmp_path / "external.onnx"
    save_model(conv_bn_relu6(), path)
    return path


def message_of(path: Path | str, error: type[ModelError | NonFiniteRangeError]) -> str:
    with pytest.raises(error) as caught:
        _ = load_model(path)
    text = str(caught.value)
    assert "\n" not in text, "one line"
    assert type(caught.value) is error
    return text


@pytest.mark.parametrize("name", ["model.onnx", "with space.onnx", "モデル ü.onnx", "m.json", "m"])
def test_round_trip(name: str, tmp_path: Path) -> None:
    """The format is protobuf, whatever the name says."""
    model = conv_bn_relu6()
    save_model(model, tmp_path / name)
    assert model_digest(load_model(str(tmp_path / name))) == model_digest(model)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    _ = open_session(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    assert "does not exist" in message_of(tmp_path / "missing.onnx", ModelError)
    assert "cannot be read" in message_of("n" * 5000, ModelError)


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in message_of(tmp_path, ModelError)


def test_device() -> None:
    assert "no regular file" in message_of("/dev/null", ModelError)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    assert "is empty" in message_of(path, ModelError)


@pytest.mark.parametrize(
    "content", [b"hello, this is text\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04" * 9]
)
def test_not_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    assert "is not an ONNX model" in message_of(path, ModelError)


def test_every_truncation(model_file: Path) -> None:
    whole = model_file.read_bytes()
    for length in range(1, len(whole) - 1, 7):
        model_file.write_bytes(whole[:length])
        text = message_of(model_file, ModelError)
        assert "not an ONNX model" in text or "not a valid ONNX model" in text


def test_invalid_graph(tmp_path: Path) -> None:
    path = tmp_path / "invalid.onnx"
    save_model(network("y = Relu (nowhere)", {}), path)
    assert "is not a valid ONNX model" in message_of(path, ModelError)


def test_sparse_constants_are_refused_in_one_line(tmp_path: Path) -> None:
    import onnx

    model = ir.to_proto(network("y = Add (x, c)", {"c": normal(3, 1, 1)}))
    dense = model.graph.initializer.pop()
    sparse = onnx.SparseTensorProto(dims=[3, 1, 1])
    sparse.values.CopyFrom(dense)
    sparse.values.dims[:] = [3]
    sparse.indices.CopyFrom(ir.to_proto(ir.tensor(np.arange(3), name="")))
    node = model.graph.node.add(op_type="Constant", output=["c"])
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    node.attribute[0].sparse_tensor.CopyFrom(sparse)
    model.graph.node.insert(0, model.graph.node.pop())
    path = tmp_path / "sparse.onnx"
    path.write_bytes(model.SerializeToString())
    assert "cannot be read: Sparse" in message_of(path, ModelError)


def test_external_data(external: Path) -> None:
    assert external.with_name("external.onnx.data").is_file()
    model = load_model(external)
    assert model_digest(model) == model_digest(conv_bn_relu6())
    external.with_name("external.onnx.data").unlink()
    _ = open_session(model)  # what was loaded needs no file any more


def test_missing_external_data(external: Path) -> None:
    external.with_name("external.onnx.data").unlink()
    assert "external.onnx.data" in message_of(external, ModelError)


@pytest.mark.parametrize("length", [0, 10])
def test_truncated_external_data(external: Path, length: int) -> None:
    data = external.with_name("external.onnx.data")
    data.write_bytes(data.read_bytes()[:length])
    assert "cannot be read" in message_of(external, ModelError)


def test_external_data_over_its_own_source(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lazily loaded model is written over the files it still reads."""
    lazy = ir.load(external)
    save_model(lazy, external)
    assert model_digest(load_model(external)) == model_digest(conv_bn_relu6())
    monkeypatch.undo()
    assert len(list(external.parent.iterdir())) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_non_finite_weights(value: float, dtype: type[np.floating], tmp_path: Path) -> None:
    weight = normal(4, 3, 1, 1, dtype=dtype)
    weight[1, 2] = value
    kind = {np.float32: "float", np.float16: "float16", np.float64: "double"}[dtype]
    model = network(CONV, {"w": weight}, inputs=f"{kind}[N,3,8,8] x", outputs=f"{kind}[N,C,H,W] y")
    path = tmp_path / "damaged.onnx"
    save_model(model, path)
    text = message_of(path, NonFiniteRangeError)
    assert text.startswith(
        f"weight 'w' of shape (4, 3, 1, 1) holds {'NaN' if value != value else 'infinity'}"
    )


def test_non_finite_constant_node(tmp_path: Path) -> None:
    model = network("c = Constant <value = float[2] {1, 2}> ()\ny = Mul (x, c)", {})
    (constant, _) = model.graph
    bad = ir.tensor(np.array([1, np.nan], np.float32))
    constant.attributes["value"] = ir.AttrTensor("value", bad)
    path = tmp_path / "damaged.onnx"
    save_model(model, path)
    assert "weight 'c'" in message_of(path, NonFiniteRangeError)


def test_an_infinite_bound_is_no_damage(tmp_path: Path) -> None:
    model = network(
        "y = Clip (x, low, high)",
        {
            "low": np.array(0, np.float32),
            "high": np.array(np.inf, np.float32),
        },
    )
    save_model(model, tmp_path / "m.onnx")
    _ = load_model(tmp_path / "m.onnx")


def test_low_opsets_are_converted(tmp_path: Path) -> None:
    save_model(network("y = Clip <max = 6.0> (x)", {}, opset=7), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    assert model.opset_imports[""] == 11
    assert [value.name for value in model.graph.outputs] == ["y"]


@pytest.mark.parametrize(
    ("body", "opset", "reason"),
    [
        ("y = Upsample (x, s)", 7, "cannot convert it to 11 (required undefined attribute"),
        ("y = Hardmax <axis = 1> (x)", 12, "(Hardmax) means something else from opset 13 on"),
        ("y = TopK <k = 2> (x)", 11, "cannot convert it to 13 ("),
    ],
)
def test_unconvertible_opsets(body: str, opset: int, reason: str) -> None:
    weights = {"s": np.ones(4, np.float32)} if "s)" in body else {}
    with pytest.raises(UnsupportedModelError) as caught:
        _ = raise_opset(network(body, weights, opset=opset), 11 if opset < 11 else 13)
    assert reason in str(caught.value)
    assert "export it again" in str(caught.value)


def test_a_model_without_onnx_ops_has_no_opset_to_raise() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["com.microsoft" : 1]>'
        "network (float[N] x) => (float[N] y) { y = com.microsoft.Gelu (x) }"
    )
    assert raise_opset(model, 13) is model


def test_the_digest_ignores_storage(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    expected = model_digest(conv_bn_relu6())
    assert model_digest(ir.load(external)) == expected, "external data"
    typed = ir.to_proto(conv_bn_relu6())
    for tensor in typed.graph.initializer:
        if tensor.data_type == 1:
            tensor.float_data.extend(np.frombuffer(tensor.raw_data, np.float32).tolist())
            tensor.ClearField("raw_data")
    typed.doc_string = typed.graph.doc_string = typed.graph.node[0].doc_string = "words"
    typed.producer_name = "someone"
    typed.graph.node[0].name = typed.graph.node[0].name
    assert model_digest(ir.from_proto(typed)) == expected, "typed fields, doc strings"
    model = conv_bn_relu6()
    write_metadata(model, {"note": "anything"})
    assert model_digest(model) == expected, "metadata"
    reordered = conv_bn_relu6()
    first = next(iter(reordered.graph.initializers.values()))
    reordered.graph.initializers.pop(first.name or "")
    reordered.graph.register_initializer(first)
    assert model_digest(reordered) == expected, "order of the constants"


def digest_of(body: str, **changes: float) -> str:
    weights = {"w": normal(3, 3, 1, 1), "b": normal(3)}
    for name, value in changes.items():
        weights[name] = weights[name].copy()
        weights[name].reshape(-1)[0] = value
    return model_digest(network(body, weights))


def test_the_digest_sees_content() -> None:
    digests = [
        digest_of(f"c = Conv (x, w, b)\n{CONV}"),
        digest_of(f"c = Conv (x, w)\n{CONV}"),
        digest_of("c = Conv (x, w, b)\ny = Conv (c, w)"),
        digest_of(f"c = Conv <strides = [2, 2]> (x, w, b)\n{CONV}"),
        digest_of(f"c = Conv <strides = [2, 1]> (x, w, b)\n{CONV}"),
        digest_of(f"c = Conv (x, w, b)\n{CONV}", w=2.0),
        digest_of(f"c = Conv (x, w, b)\n{CONV}", b=2.0),
        digest_of(f"c = Relu (x)\n{CONV}"),
        digest_of(f"c = com.microsoft.Relu (x)\n{CONV}"),
        digest_of(f"c = LeakyRelu <alpha = 0.1> (x)\n{CONV}"),
        digest_of(f"c = LeakyRelu <alpha = 0.2> (x)\n{CONV}"),
        model_digest(network(f"c = Relu (x)\n{CONV}", {"w": normal(3, 3, 1, 1)}, opset=18)),
    ]
    assert len(set(digests)) == len(digests)


def test_the_digest_sees_branches_functions_and_strings() -> None:
    template = """
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        network (float[N] x, bool k) => (float[N] y) {{
            s = Constant <value = string[1] {{"{text}"}}> ()
            a = local.times (x)
            y = If (k) <
                then_branch = t () => (float[N] b) {{ b = Mul (a, a) }},
                else_branch = e () => (float[N] c) {{ c = {op} (a) }}
            >
        }}
        <opset_import: ["" : 17], domain: "local">
        times (v) => (w) {{ two = Constant <value_float = {factor}> () w = Mul (v, two) }}
        """
    variants = [
        {"text": "a", "op": "Relu", "factor": "2.0"},
        {"text": "b", "op": "Relu", "factor": "2.0"},
        {"text": "a", "op": "Neg", "factor": "2.0"},
        {"text": "a", "op": "Relu", "factor": "3.0"},
    ]
    digests = [model_digest(ir.from_onnx_text(template.format(**v))) for v in variants]
    assert len(set(digests)) == len(digests)
    again = model_digest(ir.from_onnx_text(template.format(**variants[0])))
    assert again == digests[0], "strings are hashed by content, not by address"


def test_the_digest_sees_a_constant_that_callers_may_feed() -> None:
    model = network(CONV, {"w": normal(3, 3, 1, 1)})
    before = model_digest(model)
    model.graph.inputs.append(model.graph.initializers["w"])
    assert model_digest(model) != before


def test_metadata_round_trip(model_file: Path) -> None:
    model = load_model(model_file)
    model.metadata_props["author"] = "someone"
    write_metadata(model, {"version": "1", "recipe": "fast"})
    save_model(model, model_file)
    assert read_metadata(load_model(model_file)) == {"version": "1", "recipe": "fast"}
    assert load_model(model_file).metadata_props["author"] == "someone"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def write_and_fail() -> None:
        with partial_file(path) as partial:
            partial.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_external_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantkit.graph.model_io._EMBED_LIMIT_BYTES", 1)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnx_ir.save", fail)
    with pytest.raises(ModelError, match=r"cannot write .*No space left"):
        save_model(conv_bn_relu6(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        save_model(conv_bn_relu6(), tmp_path / "m.onnx")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.onnx").stat().st_mode) == mode


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    places = (tmp_path, tmp_path / "missing" / "m.onnx", Path("/dev/null"), Path("/proc/m.onnx"))
    for path in places:
        with pytest.raises(ModelError, match="cannot write"):
            save_model(conv_bn_relu6(), path)
    assert list(tmp_path.iterdir()) == []
    assert Path("/dev/null").is_char_device()


def test_a_program_is_plain_data() -> None:
    model = network(
        'y, m = Dropout (c)\n c = Resize <mode = "nearest"> (x, , s)',
        {"s": np.array([1, 1, 2, 2], np.float32)},
    )
    model.graph.sort()
    program = program_of(model)
    resize, dropout = program.nodes
    assert (resize.name, resize.inputs, resize.outputs) == ("c", ("x", "", "s"), ("c",))
    assert resize.text("mode", "") == "nearest"
    assert (dropout.version, dropout.outputs) == (17, ("y", "m"))
    assert program.inputs[0].shape == ("N", 3, 8, 8)
    assert program.output_names() == {"y"}
    assert program.producers()["c"] is resize
    assert program.consumers() == {"x": [resize], "s": [resize], "c": [dropout]}
    assert program.last_uses() == (("x",), ("c", "y", "m"))
