from collections.abc import Mapping

import numpy as np
import pytest

from quantkit.graph.program import Array, Program
from quantkit.passes.prepare import prepare
from quantkit.recovery import operation_gradients
from quantkit.recovery.block_gradients import Operands, block_backward, run_block
from quantkit.recovery.fake_quantization import Grid
from quantkit.recovery.operation_gradients import gradient_refusal
from tests.small_networks import NETWORKS, Network, random_feeds

DELTA = 1e-6

BLOCKS = {
    "grouped": Network(
        """(float[N,4,7,7] x, float[6,2,3,3] w, float[6] b) => (float[N,6,4,4] y) {
          y = Conv<group = 2, pads = [1,1,1,1], strides = [2,2]>(x, w, b)
        }""",
        (4, 7, 7),
    ),
    "same": Network(
        """(float[N,4,7,7] x, float[4,1,3,3] w, float[8,4,1,1] v) => (float[N,8,4,4] y) {
          c = Conv<group = 4, auto_pad = "SAME_UPPER", strides = [2,2]>(x, w)
          y = Conv(c, v)
        }""",
        (4, 7, 7),
    ),
    "gemm": Network(
        """(float[N,5] x, float[5,6] w, float[6] b, float[3,6] v, float[3] c)
          => (float[N,3] y) {
          h = Gemm(x, w, b)
          y = Gemm<transB = 1>(h, v, c)
        }""",
        (5,),
    ),
    "pools": Network(
        """(float[N,3,9,9] x, float[3,3,1,1] w) => (float[N,3,5,5] y) {
          c = Conv(x, w)
          m = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(c)
          y = AveragePool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(m)
        }""",
        (3, 9, 9),
    ),
    "gates": Network(
        """(float[N,3,5,5] x, float[3,3,1,1] w, float[3,3,1,1] v) => (float[N,3,5,5] y) {
          a = Conv(x, w)
          p = GlobalAveragePool(a)
          g = Conv(p, v)
          r = Relu(g)
          m = Mul(a, r)
          y = Add(m, a)
        }""",
        (3, 5, 5),
    ),
    "clip": Network(
        """(float[N,3,5,5] x, float[3,3,1,1] w, float low, float high) => (float[N,3,5,5] y) {
          c = Conv(x, w)
          y = Clip(c, low, high)
        }""",
        (3, 5, 5),
        constants={"low": np.array(-0.3, np.float32), "high": np.array(0.4, np.float32)},
    ),
    "mobile": NETWORKS["mobile"],
    "matmul": NETWORKS["matmul"],
}


def block(name: str) -> tuple[Program, Operands, dict[str, Array]]:
    net = BLOCKS[name]
    model = net.model()
    program = prepare(model).program
    constants = {
        key: array.astype(np.float64) if array.dtype == np.float32 else array
        for key, array in program.constants.items()
    }
    feeds = random_feeds(model, net.input_shape, 2, seed=3)
    return program, Operands(constants, {}), {k: a.astype(np.float64) for k, a in feeds.items()}


def largest_difference(name: str) -> float:
    """Between gradients of the constants and finite differences, against the largest gradient."""
    program, operands, feeds = block(name)
    rng = np.random.default_rng(5)
    output = program.outputs[0].name
    activations = run_block(program.nodes, feeds, operands)
    grad_y = rng.normal(0.0, 1.0, activations.values[output].shape)
    found = block_backward(program.nodes, activations, {output: grad_y}, operands).constants

    def loss(constants: Mapping[str, Array]) -> float:
        values = run_block(program.nodes, feeds, Operands(constants, {})).values
        return float(np.sum(values[output] * grad_y))

    worst = 0.0
    assert found
    for key, gradient in found.items():
        largest = np.abs(gradient).max()
        for flat in rng.choice(gradient.size, min(gradient.size, 6), replace=False):
            index = np.unravel_index(flat, gradient.shape)
            ends = []
            for sign in (1, -1):
                moved = operands.constants[key].copy()
                moved[index] += sign * DELTA
                ends.append(loss({**operands.constants, key: moved}))
            difference = (ends[0] - ends[1]) / (2 * DELTA)
            worst = max(worst, abs(difference - gradient[index]) / largest)
    return worst


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_gradients_equal_finite_differences(name: str) -> None:
    assert largest_difference(name) < 1e-5


def test_wrong_sign_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {**operation_gradients.BACKWARD, "Add": lambda node, inputs, grad_y: (grad_y, -grad_y)}
    monkeypatch.setattr("quantkit.recovery.block_gradients.BACKWARD", wrong)
    assert largest_difference("gates") > 1e-2


def test_missing_clip_mask_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {**operation_gradients.BACKWARD, "Clip": lambda node, inputs, grad_y: (grad_y,)}
    monkeypatch.setattr("quantkit.recovery.block_gradients.BACKWARD", wrong)
    assert largest_difference("clip") > 1e-2


def test_saturated_sums_get_no_gradient() -> None:
    program, operands, feeds = block("grouped")
    narrow = Operands(operands.constants, {"y": Grid(1e-6, -1, 1)})
    activations = run_block(program.nodes, feeds, narrow)
    grad_y = np.ones(activations.values["y"].shape)
    found = block_backward(program.nodes, activations, {"y": grad_y}, narrow)
    assert not np.any(found.constants["w"])
    assert found.steps["y"] == pytest.approx(np.sum(np.sign(activations.sums["y"])))


def test_refusals_have_reasons() -> None:
    program = prepare(NETWORKS["softmax"].model()).program
    reasons = [gradient_refusal(node, program) for node in program.nodes]
    assert reasons == [None, "Softmax has no backward form"]
    program = prepare(NETWORKS["two_activations"].model()).program
    assert gradient_refusal(program.nodes[-1], program) == "its weight is computed"
