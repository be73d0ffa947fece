import numpy as np
import pytest

from quantkit.calibration.dataset import Dataset, open_dataset
from quantkit.config import QuantConfig
from quantkit.exporters.qdq import qdq_graph
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import QuantizedTensor
from quantkit.numerics.metrics import sqnr_db
from quantkit.ops.clamp import clamp_is_implied
from quantkit.quantized_model.constants import accumulator_max
from quantkit.quantized_model.model import QuantizedModel, node_bound, weight_and_bias
from quantkit.recovery import block_model
from quantkit.recovery.block_reconstruction import reconstruct_blocks
from quantkit.recovery.block_variables import Learnable, Variables, rounding_of, step_key
from quantkit.recovery.blocks import cut_blocks
from quantkit.recovery.operation_gradients import gradient_refusal
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.small_networks import NETWORKS, onnxruntime_outputs, quantized

COARSE = QuantConfig(per_channel=False, reduce_range=True)


def samples(name: str, model: QuantizedModel, count: int = 48, seed: int = 11) -> Dataset:
    feeds = NETWORKS[name].feeds(count, seed)
    rows = [{key: array[i : i + 1] for key, array in feeds.items()} for i in range(count)]
    return open_dataset(rows, model.prepared.program.inputs, preprocessing=None)


def quality(name: str, model: QuantizedModel) -> float:
    feeds = NETWORKS[name].feeds(32, seed=99)
    outputs = onnxruntime_outputs(model.prepared.model, feeds)
    result = open_integer_session(model).run(feeds)
    return min(sqnr_db(outputs[key], result[key]) for key in outputs)


def reconstructed(
    name: str, config: QuantConfig = COARSE, iterations: int = 30, joined: int = 60
) -> tuple[QuantizedModel, QuantizedModel]:
    model, _ = quantized(NETWORKS[name], config)
    new = reconstruct_blocks(
        model,
        samples(name, model),
        batch_size=8,
        iterations=iterations,
        joined_iterations=joined,
    )
    return model, new


@pytest.mark.parametrize(("name", "decibels"), [("mobile", 0.5), ("residual", 0.2)])
def test_other_samples_gain(name: str, decibels: float) -> None:
    model, new = reconstructed(name)
    assert quality(name, new) > quality(name, model) + decibels
    assert [note.pass_name for note in new.notes[len(model.notes) :]] == ["block_reconstruction"]


def test_codes_stay_within_one_step_of_the_weights() -> None:
    model, new = reconstructed("mobile")
    is_changed = False
    for node in new.prepared.program.nodes:
        weight = weight_and_bias(node)[0]
        if not weight:
            continue
        codes, before = new.constants[weight], model.constants[weight]
        scale, _ = codes.params.aligned(codes.data.ndim)
        exact = new.prepared.program.constants[weight] / scale
        assert np.abs(codes.data - exact).max() <= 1 + 1e-4
        assert np.abs(codes.data).max() <= 64
        is_changed |= not np.array_equal(codes.data, before.data)
    assert is_changed


def test_the_result_is_a_sound_model() -> None:
    model, new = reconstructed("mobile")
    program, params = new.prepared.program, new.plan.params
    for node in program.nodes:
        bound = node_bound(node, program, new.plan, new.constants)
        assert new.accumulator_bounds.get(node.name) == bound
        assert bound is None or bound <= accumulator_max(params[node.inputs[0]])
        weight, bias = weight_and_bias(node)
        if bias:
            expected = params[node.inputs[0]].scale * new.constants[weight].params.scale
            np.testing.assert_array_equal(new.constants[bias].params.scale, expected)
        if node.name in new.prepared.clamps:
            assert params[node.inputs[0]].equals(params[node.outputs[0]])
            arrays = [program.constants.get(key) for key in node.inputs]
            assert clamp_is_implied(node, arrays, params[node.outputs[0]])
    for spec in (*program.inputs, *program.outputs):
        assert params[spec.name].equals(model.plan.params[spec.name])
    check_equals_onnxruntime(new, qdq_graph(new), NETWORKS["mobile"].feeds(4, seed=5))


def test_results_repeat() -> None:
    first, second = (reconstructed("residual", iterations=3, joined=3)[1] for _ in range(2))
    for name, tensor in first.constants.items():
        np.testing.assert_array_equal(tensor.data, second.constants[name].data)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_passes_through(name: str) -> None:
    _, new = reconstructed(name, QuantConfig(), iterations=2, joined=2)
    qdq_graph(new)
    assert quality(name, new) > 5.0


def test_what_is_no_better_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bias ends some steps away from where it was."""

    def wrong(block: Learnable, *positional: object, **named: object) -> Variables:
        moved = {name: np.full_like(block.start()[name], 8.0) for name in block.bias_units}
        return {**block.start(), **moved}

    monkeypatch.setattr("quantkit.recovery.block_reconstruction.fit", wrong)
    model, new = reconstructed("mobile")
    assert new is model


def test_blocks_that_could_overflow_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_model, "accumulator_max", lambda params: 1)
    model, new = reconstructed("mobile", iterations=2, joined=2)
    assert new is model


def test_clamps_stay_implied_however_far_steps_move() -> None:
    model, _ = quantized(NETWORKS["mobile"])
    program = model.prepared.program
    for block in cut_blocks(program, lambda node: gradient_refusal(node, program)):
        learnable = block_model.learnable_of(model, block)
        assert learnable is not None
        variables = learnable.start()
        for group in learnable.step_groups.values():
            variables[step_key(group)] += 0.7
        moved = block_model.with_block(model, learnable, variables)
        assert moved is not None
        for node in block.nodes:
            if node.name in model.prepared.clamps:
                arrays = [program.constants.get(key) for key in node.inputs]
                assert clamp_is_implied(node, arrays, moved.plan.params[node.outputs[0]])


def test_codes_of_another_step_are_a_start() -> None:
    rng = np.random.default_rng(0)
    model, _ = quantized(NETWORKS["mobile"])
    weight = model.prepared.program.constants["w2"]
    given = model.constants["w2"]
    exact = weight / given.params.aligned(weight.ndim)[0]
    codes = np.where(rng.random(weight.shape) < 0.5, np.floor(exact), np.ceil(exact))
    codes = np.clip(codes, -127, 127)
    codes.flat[0] = 100 if exact.flat[0] < 0 else -100
    tensor = QuantizedTensor(codes.astype(np.int8), given.params)
    rounding = rounding_of(weight, tensor)
    np.testing.assert_array_equal(rounding.codes(rounding.start), codes)
    assert not rounding.has_choice.flat[0]
