import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from PIL import Image

from quantkit.calibration.collector import Collector, Progress, collect, sample_digest
from quantkit.calibration.dataset import Dataset, DataSource, open_dataset
from quantkit.calibration.preprocessing import PRESETS
from quantkit.calibration.statistics import statistics_of_sample
from quantkit.calibration.table import DIGEST_MODULUS, CalibrationTable, merge
from quantkit.errors import (
    CalibrationError,
    ConfigError,
    NonFiniteRangeError,
    UnreadableSampleError,
)
from quantkit.graph.ort_session import OrtSession, open_session
from quantkit.graph.program import Array

RNG = np.random.default_rng(0)
SAMPLES = RNG.standard_normal((37, 3, 9, 9)).astype(np.float32)
TENSORS = ("conv", "relu", "depthwise", "sum", "pooled", "flat", "logits", "probabilities")


def literal(name: str, *shape: int) -> str:
    values = np.random.default_rng(len(name)).standard_normal(shape).round(3)
    dimensions = ",".join(map(str, shape))
    return f"float[{dimensions}] {name} = {{{','.join(map(str, values.reshape(-1)))}}}"


def conv_session(batch: str = "N") -> OrtSession:
    return open_session(
        ir.from_onnx_text(f"""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[{batch},3,9,9] x) => (
            float[{batch},8,9,9] conv, float[{batch},8,9,9] relu, float[{batch},8,9,9] depthwise,
            float[{batch},8,9,9] sum, float[{batch},8,1,1] pooled, float[{batch},8] flat,
            float[{batch},5] logits, float[{batch},5] probabilities)
        <{literal("w", 8, 3, 3, 3)}, {literal("bias", 8)}, {literal("w_dw", 8, 1, 3, 3)},
         {literal("w_fc", 8, 5)}>
        {{
            conv = Conv <pads = [1,1,1,1]> (x, w, bias)
            relu = Relu (conv)
            depthwise = Conv <pads = [1,1,1,1], group = 8> (relu, w_dw)
            sum = Add (relu, depthwise)
            pooled = GlobalAveragePool (sum)
            flat = Flatten (pooled)
            logits = Gemm (flat, w_fc)
            probabilities = Softmax (logits)
        }}"""),
        threads=1,
    )


def text_session(body: str) -> OrtSession:
    text = f'<ir_version: 8, opset_import: ["": 17]> net {body}'
    return open_session(ir.from_onnx_text(text), threads=1)


def dataset_of(session: OrtSession, source: DataSource = SAMPLES) -> Dataset:
    return open_dataset(source, session.inputs, preprocessing=None)


def table_of(
    session: OrtSession,
    dataset: Dataset,
    tensors: Sequence[str] = TENSORS,
    progress: Progress | None = None,
    **options: Any,
) -> CalibrationTable:
    return collect(Collector(session, tensors, "m", **options), dataset, progress)


def file_bytes(table: CalibrationTable, folder: Path) -> bytes:
    table.save(folder / "t.calib.npz")
    return (folder / "t.calib.npz").read_bytes()


@pytest.fixture(scope="module")
def session() -> OrtSession:
    return conv_session()


@pytest.fixture(scope="module")
def reference(session: OrtSession, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    table = table_of(session, dataset_of(session), batch_size=1, threads=1)
    return file_bytes(table, tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_same_bytes_whatever_order_batch_size_and_threads(
    session: OrtSession,
    reference: bytes,
    tmp_path: Path,
    batch_size: int,
    threads: int,
    shuffled: bool,
) -> None:
    dataset = dataset_of(session)
    if shuffled:
        dataset = dataset.take(np.random.default_rng(batch_size).permutation(37).tolist())
    table = table_of(session, dataset, batch_size=batch_size, threads=threads)
    assert file_bytes(table, tmp_path) == reference


@pytest.mark.parametrize("batch", ["1", "5"])
def test_same_bytes_from_a_network_with_a_fixed_batch(
    reference: bytes, tmp_path: Path, batch: str
) -> None:
    fixed = conv_session(batch)
    table = table_of(fixed, dataset_of(fixed), batch_size=7)
    assert file_bytes(table, tmp_path) == reference


def test_same_bytes_from_merged_parts(
    session: OrtSession, reference: bytes, tmp_path: Path
) -> None:
    dataset = dataset_of(session)
    parts = [table_of(session, dataset.take(range(start, 37, 3))) for start in range(3)]
    assert file_bytes(merge(parts[2], merge(parts[0], parts[1])), tmp_path) == reference


def test_other_data_give_other_bytes(session: OrtSession, reference: bytes, tmp_path: Path) -> None:
    changed = SAMPLES.copy()
    changed[5, 0, 0, 0] = np.nextafter(changed[5, 0, 0, 0], np.float32(9))
    other = table_of(session, dataset_of(session, changed))
    assert file_bytes(other, tmp_path) != reference
    assert other.data_digest != table_of(session, dataset_of(session)).data_digest


def test_statistics_are_those_of_the_activations(session: OrtSession) -> None:
    table = table_of(session, dataset_of(session), batch_size=7, model_name="net")
    assert (table.sample_count, table.model_digest, table.model_name) == (37, "m", "net")
    assert set(table.statistics) == {"x", *TENSORS}
    activations: dict[str, npt.NDArray[Any]] = {
        "x": SAMPLES,
        **{name: np.asarray(array) for name, array in session.run({"x": SAMPLES}).items()},
    }
    for name, values in activations.items():
        found = table.statistics[name]
        assert (found.minimum, found.maximum) == (values.min(), values.max())
        assert (found.count, found.sample_count) == (values.size, 37)
        others = tuple(axis for axis in range(values.ndim) if axis != 1)
        assert found.channels is not None
        np.testing.assert_array_equal(found.channels.minimum, values.min(axis=others))
        np.testing.assert_array_equal(found.channels.maximum, values.max(axis=others))
        means = values.mean(axis=others, dtype=np.float64)
        np.testing.assert_allclose(found.channels.means(37), means, rtol=0, atol=2.0**-22)


def test_data_digest_is_the_sum_of_the_samples_digests(session: OrtSession) -> None:
    table = table_of(session, dataset_of(session), batch_size=3)
    total = 0
    for sample in SAMPLES:
        text = b"x\0<f4\0(3, 9, 9)\0" + sample.tobytes()
        total += int.from_bytes(hashlib.sha256(text).digest(), "big")
    assert int(table.data_digest, 16) == total % DIGEST_MODULUS


def test_sample_digest_sees_names_dtypes_and_shapes() -> None:
    x = np.zeros(4, np.float32)
    different: list[dict[str, Array]] = [
        {"x": x},
        {"y": x},
        {"x": x.reshape(2, 2)},
        {"x": x.view(np.int32)},
        {"x": x + 1},
    ]
    assert len({sample_digest(sample) for sample in different}) == 5
    one, other = {"a": x, "b": x + 1}, {"b": x + 1, "a": x}
    assert sample_digest(one) == sample_digest(other)
    assert sample_digest({"x": x + 1}) == sample_digest({"x": (x + 1).astype(">f4")})


@pytest.mark.parametrize(("damaged", "last"), [(1, [(1, 3), (3, 3)]), (2, [(2, 3), (3, 3)])])
def test_progress_counts_skipped_samples_too(
    session: OrtSession, tmp_path: Path, damaged: int, last: list[tuple[int, int]]
) -> None:
    for index in range(3):
        Image.new("RGB", (20, 20), (index, 0, 0)).save(tmp_path / f"{index}.png")
    (tmp_path / f"{damaged}.png").write_text("damaged")
    dataset = open_dataset(tmp_path, session.inputs, preprocessing=PRESETS["tf"])
    seen: list[tuple[int, int]] = []
    table = table_of(session, dataset, progress=lambda done, total: seen.append((done, total)))
    assert seen[-2:] == last
    assert table.sample_count == 2
    assert table.preprocessing == dataset.preprocessing
    assert set(dataset.skipped) == {f"{damaged}.png"}


def test_only_inputs(session: OrtSession) -> None:
    table = table_of(session, dataset_of(session), tensors=["x"], batch_size=2)
    assert set(table.statistics) == {"x"}


def test_integer_inputs_have_no_range() -> None:
    session = text_session(
        "(float[N,4] x, int64[N,2] ids) => (float[N,2] y) "
        "{ y = GatherElements <axis = 1> (x, ids) }"
    )
    source = {"x": np.ones((3, 4)), "ids": np.array([[0, 1]] * 3)}
    assert set(table_of(session, dataset_of(session, source), ["y"]).statistics) == {"x", "y"}


# `rows` has 2 N rows and its axis 0 is no batch; `turned` has the batch last.
ROWS = (
    "(float[N,2,3] x) => (float[M,3] rows, float[2,N,3] turned) <int64[2] shape = {-1, 3}> "
    "{ rows = Reshape (x, shape) turned = Transpose <perm = [1, 0, 2]> (x) }"
)


@pytest.mark.parametrize("tensors", [["rows"], ["turned"], ["rows", "turned"]])
@pytest.mark.parametrize("batch_size", [2, 3])
def test_tensors_without_batch_axis_are_run_sample_by_sample(
    tmp_path: Path, tensors: list[str], batch_size: int
) -> None:
    session = text_session(ROWS)
    x = RNG.standard_normal((5, 2, 3)).astype(np.float32)
    singly = table_of(session, dataset_of(session, x), tensors, batch_size=1)
    batched = table_of(session, dataset_of(session, x), tensors, batch_size=batch_size)
    assert file_bytes(batched, tmp_path) == file_bytes(singly, tmp_path)
    if "rows" in tensors:
        expected = statistics_of_sample(x[0])
        for sample in x[1:]:
            expected = expected.merge(statistics_of_sample(sample))
        found = singly.statistics["rows"].channels
        assert found is not None
        assert expected.channels is not None
        np.testing.assert_array_equal(found.maximum, x.max(axis=(0, 1)))


@pytest.mark.parametrize("batch_size", [2, 3, 4, 5])
def test_an_axis_that_happens_to_be_as_long_as_the_batch(tmp_path: Path, batch_size: int) -> None:
    session = text_session(
        "(float[N,L,3] x) => (float[L,N,3] turned) { turned = Transpose <perm = [1, 0, 2]> (x) }"
    )
    x = RNG.standard_normal((8, 4, 3)).astype(np.float32)
    singly = table_of(session, dataset_of(session, x), ["turned"])
    batched = table_of(session, dataset_of(session, x), ["turned"], batch_size=batch_size)
    assert file_bytes(batched, tmp_path) == file_bytes(singly, tmp_path)


def test_tensor_without_batch_axis_under_a_fixed_batch() -> None:
    session = text_session(ROWS.replace("[N,", "[4,").replace(",N,", ",4,"))
    with pytest.raises(
        CalibrationError, match="no batch axis, and the model insists on batches of 4"
    ):
        table_of(session, dataset_of(session, np.ones((5, 2, 3))), ["rows"])


def test_a_computed_value_without_axes_counts_as_one_number() -> None:
    session = text_session(
        "(float[N,4] x) => (float peak, float[N,4] y) "
        "{ peak = ReduceMax <keepdims = 0> (x) y = Div (x, peak) }"
    )
    x = RNG.uniform(1.0, 2.0, (3, 4)).astype(np.float32)
    found = table_of(session, dataset_of(session, x), ["peak", "y"]).statistics["peak"]
    assert (found.minimum, found.maximum) == (x.max(axis=1).min(), x.max())
    assert found.count == 3


def test_empty_tensors_are_left_out() -> None:
    session = text_session(
        "(float[N,4] x) => (float[N,K] none, float[N,4] y) "
        "<int64[1] zero = {0}, int64[1] one = {1}> "
        "{ none = Slice (x, zero, zero, one) y = Abs (x) }"
    )
    table = table_of(session, dataset_of(session, np.ones((3, 4))), ["none", "y"])
    assert set(table.statistics) == {"x", "y"}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_non_finite_activation_names_tensor_and_sample(batch_size: int) -> None:
    session = text_session(
        "(float[N,2] x) => (float[N,2] y, float[N,2] z) { y = Abs (x) z = Log (y) }"
    )
    x = np.ones((6, 2))
    x[3, 1] = 0
    message = r"tensor 'z' cannot be calibrated on sample 'array\[3\]': it holds infinity; check"
    with pytest.raises(NonFiniteRangeError, match=message):
        table_of(session, dataset_of(session, x), ["y", "z"], batch_size=batch_size)


def test_refused_options(session: OrtSession) -> None:
    dataset = dataset_of(session)
    with pytest.raises(ConfigError, match="tensor 'absent' is no output of the session"):
        table_of(session, dataset, tensors=["absent"])
    with pytest.raises(ConfigError, match="the number of threads must be at least 1, got 0"):
        table_of(session, dataset, threads=0)
    with pytest.raises(ConfigError, match="the batch size must be at least 1, got 0"):
        table_of(session, dataset, batch_size=0)
    integers = text_session("(float[N,2] x) => (int64[N,1] y) { y = ArgMax <axis = 1> (x) }")
    with pytest.raises(ConfigError, match="tensor 'y' is int64; ranges are of floating tensors"):
        table_of(integers, dataset_of(integers, np.ones((2, 2))), ["y"])


def test_a_failing_run_ends_the_pass(session: OrtSession) -> None:
    """A dataset opened for other inputs: onnxruntime's refusal comes out, threads end."""
    other = text_session("(float[N,2] other) => (float[N,2] y) { y = Abs (other) }")
    with pytest.raises(UnreadableSampleError, match="onnxruntime cannot run the model on other"):
        table_of(session, dataset_of(other, np.ones((9, 2))))
