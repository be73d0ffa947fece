"""Scores of engines against counts made by hand."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.errors import CalibrationError, ModelError, NonFiniteRangeError
from quantkit.evaluation.accuracy import Evaluation, evaluate
from quantkit.evaluation.engines import Engine
from quantkit.graph.program import Array, TensorSpec

FLOAT = np.dtype(np.float32)


def dataset(count: int, batch: int | None = None) -> Dataset:
    """Sample i is the vector (i, i, i)."""
    rows = np.repeat(np.arange(count, dtype=np.float32)[:, None], 3, axis=1)
    return open_dataset(rows, [TensorSpec("x", FLOAT, (batch, 3))], preprocessing=None)


def one_hot(classes: Array, count: int = 10) -> Array:
    table: Array = np.eye(count, dtype=np.float32)
    rows: Array = table[classes.astype(int) % count]
    return rows


def engine(label: str, **functions: object) -> Engine:
    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        numbers = feeds["x"][:, 0]
        return {name: f(numbers) for name, f in functions.items() if callable(f)}

    return Engine(label, run)


RIGHT = engine("float", y=one_hot)


def run(
    engines: list[Engine], labels: npt.NDArray[np.int64] | None = None, batch_size: int = 4
) -> Evaluation:
    return evaluate(engines, dataset(20), labels, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 3, 20, 64])
def test_counts(batch_size: int) -> None:
    """Wrong on samples 5 and 15, whose scores are those of class 6."""
    wrong = engine("int8", y=lambda n: one_hot(np.where(n % 10 == 5, 6, n)))
    labels = np.arange(20, dtype=np.int64) % 10
    labels[0] = 9
    found = run([RIGHT, wrong], labels, batch_size)
    reference, actual = found.engines
    assert reference.top1 is not None
    assert actual.top1 is not None
    assert actual.agrees is not None
    assert np.flatnonzero(~reference.top1).tolist() == [0]
    assert np.flatnonzero(~actual.top1).tolist() == [0, 5, 15]
    assert np.flatnonzero(~actual.agrees).tolist() == [5, 15]
    # 20 ones of signal, 4 of noise (two codes in each of two samples).
    assert actual.sqnr_db == {"y": pytest.approx(10 * np.log10(20 / 4), abs=1e-9)}
    assert reference.sqnr_db == {"y": np.inf}
    assert len(found.sample_names) == 20


def test_top5_needs_more_than_five_classes() -> None:
    labels = np.arange(20, dtype=np.int64) % 5
    few = engine("float", y=lambda n: one_hot(n, 5))
    (five,) = run([few], labels).engines
    (ten,) = run([RIGHT], labels).engines
    assert five.top5 is None
    assert five.top1 is not None
    assert ten.top5 is not None


@pytest.mark.parametrize(
    "output",
    [
        lambda n: n[:, None],
        lambda n: n,
        lambda n: np.float32(n.sum()),
        lambda n: np.zeros((len(n), 4, 2, 2), np.float32) + n[0],
        lambda n: one_hot(n).astype(np.int64),
    ],
    ids=["one number", "vector", "scalar", "map", "integers"],
)
def test_outputs_without_classes(output: object) -> None:
    labels = np.zeros(20, np.int64)
    found = run([engine("float", y=output), engine("int8", y=output)], labels, batch_size=1)
    assert [(s.top1, s.top5, s.agrees) for s in found.engines] == [(None, None, None)] * 2


def test_classes_may_have_trailing_axes_of_one() -> None:
    (found,) = run([engine("float", y=lambda n: one_hot(n)[:, :, None, None])]).engines
    assert found.agrees is not None


def test_answers_and_by_how_much_the_reference_prefers_its_own() -> None:
    wrong = engine("int8", y=lambda n: one_hot(np.where(n % 10 == 5, 6, n)))
    reference, actual = run([RIGHT, wrong]).engines
    assert reference.answers is not None
    assert actual.answers is not None
    assert reference.margins is not None
    assert actual.margins is not None
    assert reference.answers.tolist() == [n % 10 for n in range(20)]
    assert np.flatnonzero(actual.answers == 6).tolist() == [5, 6, 15, 16]
    assert not reference.margins.any()
    assert np.flatnonzero(actual.margins).tolist() == [5, 15]
    assert actual.margins.max() == 1.0


def test_only_what_must_be_classes_is_taken_for_them() -> None:
    """Without labels: a single output, not shaped like an input. With labels: the first output."""
    landmarks = engine("float", y=one_hot, z=lambda n: n[:, None])
    autoencoder = engine("float", y=lambda n: np.repeat(n[:, None], 3, axis=1))
    labels = np.zeros(20, np.int64)
    for several in (landmarks, autoencoder):
        (guess,) = run([several]).engines
        assert (guess.agrees, guess.answers, guess.margins) == (None, None, None)
        (told,) = run([several], labels).engines
        assert told.top1 is not None
        assert told.agrees is not None


def test_outputs_are_kept_on_request() -> None:
    assert run([RIGHT]).engines[0].outputs == ()
    (scores,) = evaluate([RIGHT], dataset(10), batch_size=4, keep_outputs=True).engines
    assert [len(batch["y"]) for batch in scores.outputs] == [4, 4, 2]


def test_the_samples_are_told_apart() -> None:
    found = [evaluate([RIGHT], dataset(10), batch_size=size) for size in (1, 3)]
    assert found[0].indices == tuple(range(10))
    assert found[0].data_digest == found[1].data_digest
    assert len(found[0].data_digest) == 64
    assert found[0].data_digest != evaluate([RIGHT], dataset(9)).data_digest


def test_a_fixed_batch_is_filled_up_and_the_filling_is_not_counted() -> None:
    found = evaluate([RIGHT], dataset(10, batch=4), np.arange(10, dtype=np.int64))
    (scores,) = found.engines
    assert scores.top1 is not None
    assert scores.top1.tolist() == [True] * 10


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (engine("int8", z=one_hot), ModelError, r"^int8 has no output 'y'; it has z"),
        (
            engine("int8", y=lambda n: one_hot(n, 11)),
            ModelError,
            r"^int8: output 'y' has shape \(4, 11\), the reference has \(4, 10\)",
        ),
        (
            engine("int8", y=lambda n: one_hot(n) / np.float32(n[0] != 8)),
            NonFiniteRangeError,
            r"^int8: output 'y' on 'array\[8\]': .*(NaN|infinity)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
def test_engines_that_do_not_fit(other: Engine, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run([RIGHT, other])


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_that_are_no_class(label: int) -> None:
    labels = np.zeros(20, np.int64)
    labels[7] = label
    with pytest.raises(CalibrationError, match=rf"label of 'array\[7\]' is {label}.* 0 to 9"):
        run([RIGHT], labels)


def test_progress() -> None:
    told: list[tuple[int, int]] = []
    evaluate([RIGHT], dataset(10), batch_size=4, progress=lambda *pair: told.append(pair))
    assert told == [(4, 10), (8, 10), (10, 10)]
