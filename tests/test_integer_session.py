from collections.abc import Mapping

import numpy as np
import pytest

from quantkit.errors import ShapeMismatchError, UnknownNameError, UnsupportedModelError
from quantkit.exporters.qdq import qdq_graph
from quantkit.graph.program import Array
from quantkit.integer_session import IntegerSession, Step, open_integer_session
from quantkit.numerics.affine import dequantize, quantize
from quantkit.ops import parallel
from tests.small_networks import NETWORKS, onnxruntime_outputs, quantized_network

NAMES = sorted(NETWORKS)
INTEGER_ONLY = [name for name in NAMES if not NETWORKS[name].kept_float]


def all_codes(session: IntegerSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [name for step in session.steps for name in step.node.outputs]
    return session.run_codes(feeds, names)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("name", INTEGER_ONLY)
def test_strict_gives_the_same_codes(name: str, batch: int) -> None:
    model, feeds = quantized_network(name), NETWORKS[name].feeds(batch)
    for arithmetic in ("onnxruntime", "fixed_point"):
        default = open_integer_session(model, arithmetic=arithmetic)
        strict = open_integer_session(model, arithmetic=arithmetic, strict_integer=True)
        expected, actual = all_codes(default, feeds), all_codes(strict, feeds)
        for value, codes in expected.items():
            np.testing.assert_array_equal(actual[value], codes, err_msg=value)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_codes_do_not_depend_on_threads(
    name: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_SHARE_BYTES", 1)
    model, feeds = quantized_network(name), NETWORKS[name].feeds(batch)
    expected = all_codes(open_integer_session(model, threads=1), feeds)
    for threads in (0, 2, 3):
        actual = all_codes(open_integer_session(model, threads=threads), feeds)
        for value, codes in expected.items():
            np.testing.assert_array_equal(actual[value], codes, err_msg=value)


@pytest.mark.parametrize("name", NAMES)
def test_fixed_point_is_one_code_away_per_op(name: str) -> None:
    """Every kernel gets the codes of the other arithmetic; Softmax may be further (its table)."""
    model, feeds = quantized_network(name), NETWORKS[name].feeds(4)
    reference = open_integer_session(model)
    fixed = open_integer_session(model, arithmetic="fixed_point")
    inputs = {spec.name: spec.name for spec in reference.program.inputs}
    values = all_codes(reference, feeds) | reference.run_codes(feeds, list(inputs))
    for step in fixed.steps:
        if step.kernel is None:
            continue
        for value, codes in fixed.run_step(step, values).items():
            gap = np.abs(codes.astype(int) - values[value].astype(int))
            assert gap.max() <= 1, value


@pytest.mark.parametrize("name", NAMES)
def test_kernels_get_and_give_integers_only(name: str) -> None:
    session = open_integer_session(quantized_network(name))
    codes = all_codes(session, NETWORKS[name].feeds(2))
    for step in session.steps:
        if step.kernel is not None:
            for value in step.node.outputs:
                assert codes[value].dtype == session.params[value].dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_handed_integers_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_step = IntegerSession.run_step

    def checked(self: IntegerSession, step: Step, values: Mapping[str, Array]) -> dict[str, Array]:
        if step.kernel is not None:
            assert all(values[value].dtype.kind == "u" for value in step.data)
        return run_step(self, step, values)

    monkeypatch.setattr(IntegerSession, "run_step", checked)
    assert open_integer_session(quantized_network(name)).run(NETWORKS[name].feeds(1))


@pytest.mark.parametrize("name", NAMES)
def test_codes_may_be_fed(name: str) -> None:
    session, feeds = open_integer_session(quantized_network(name)), NETWORKS[name].feeds(3)
    codes = {
        value: quantize(array, session.params[value]) if value in session.params else array
        for value, array in feeds.items()
    }
    expected, actual = session.run(feeds), session.run(codes)
    for value, array in expected.items():
        np.testing.assert_array_equal(actual[value], array)


def test_outputs_are_the_real_values_of_the_codes() -> None:
    session, feeds = open_integer_session(quantized_network("mobile")), NETWORKS["mobile"].feeds(2)
    codes = session.run_codes(feeds, ["y", "x"])
    assert list(codes) == ["y", "x"]
    np.testing.assert_array_equal(codes["x"], quantize(feeds["x"], session.params["x"]))
    real = dequantize(codes["y"], session.params["y"])
    np.testing.assert_array_equal(session.run(feeds)["y"], real)


def test_integers_that_are_no_codes_are_real_values() -> None:
    session = open_integer_session(quantized_network("matmul"))
    whole = np.arange(60).reshape(1, 6, 10) % 5 - 2
    expected = session.run({"x": whole.astype(np.float32)})["y"]
    np.testing.assert_array_equal(session.run({"x": whole})["y"], expected)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_dropped_after_their_last_use(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[set[str]] = []
    run_step = IntegerSession.run_step

    def recorded(self: IntegerSession, step: Step, values: Mapping[str, Array]) -> dict[str, Array]:
        held.append(set(values))
        return run_step(self, step, values)

    monkeypatch.setattr(IntegerSession, "run_step", recorded)
    session = open_integer_session(quantized_network(name))
    assert session.run(NETWORKS[name].feeds(1))
    assert len(held) == len(session.steps)
    for position, names in enumerate(held):
        needed = {name for step in session.steps[position:] for name in step.node.inputs}
        assert names <= needed


def test_strict_refuses_a_float_island_by_name() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"node 'island' stays float \(no integer kernel for Shrink\)"
    ):
        open_integer_session(quantized_network("float_island"), strict_integer=True)


def test_unknown_arithmetic() -> None:
    with pytest.raises(UnknownNameError, match="'gemmlowp'; known: fixed_point, onnxruntime"):
        open_integer_session(quantized_network("mobile"), arithmetic="gemmlowp")


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'x' is missing; got nothing"),
        ({"z": np.zeros(1)}, "input 'x' is missing; got z"),
        ({"x": np.zeros((1, 3, 16))}, r"input 'x' has shape \('N', 3, 16, 16\), got \(1, 3, 16\)"),
        ({"x": np.zeros((1, 4, 16, 16))}, r"input 'x' has shape .*, got \(1, 4, 16, 16\)"),
    ],
)
def test_wrong_feeds(feeds: dict[str, Array], message: str) -> None:
    with pytest.raises(ShapeMismatchError, match=message):
        open_integer_session(quantized_network("mobile")).run(feeds)


def test_unknown_fetch() -> None:
    session = open_integer_session(quantized_network("mobile"))
    with pytest.raises(ShapeMismatchError, match="'nowhere' is no value of the prepared graph"):
        session.run_codes(NETWORKS["mobile"].feeds(1), ["y", "nowhere"])


def test_runs_are_independent() -> None:
    model = quantized_network("residual")
    session, feeds = open_integer_session(model), NETWORKS["residual"].feeds(5)
    whole = session.run(feeds)["y"]
    for index in range(5):
        one = session.run({"x": feeds["x"][index : index + 1]})["y"]
        np.testing.assert_array_equal(one[0], whole[index])
    expected = onnxruntime_outputs(qdq_graph(model), feeds)["y"]
    np.testing.assert_array_equal(session.run(feeds)["y"], expected)
