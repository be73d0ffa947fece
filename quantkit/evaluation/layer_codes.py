"""What every integer node reads, sums up and writes: for golden vectors and hardware verdicts.

The network runs with onnxruntime's arithmetic; each node is run once more, on the same input codes,
with the fixed-point one. Accumulators are the op's float form on centred codes in float64, which is
exact: products of codes sum up to far less than 2^53.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.errors import ConfigError, ShapeMismatchError
from quantkit.exporters.contract import LayerCodes, Samples
from quantkit.graph.program import Array, Node, TensorSpec
from quantkit.integer_session import Step, open_integer_session
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.numerics.code_table import every_code
from quantkit.numerics.integer_gemm import sums_of
from quantkit.ops.activations import Activation, Power
from quantkit.ops.contract import OPS
from quantkit.ops.windows import crop_same, node_windows, pad_codes
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias
from quantkit.quantized_model.multipliers import operand_params

RANDOM_SEED = 0

Values = Mapping[str, Array]


def record_samples(model: QuantizedModel, dataset: Dataset | None, runs: int = 1) -> Samples:
    """The codes of every integer node on some samples; layers are computed while they are read.

    Args:
        model: The quantized model.
        dataset: The samples, one run each; None: pseudo-random input codes.
        runs: How many runs without a dataset.

    Raises:
        ConfigError: There is no dataset, and an input has an open size or is no activation.
        CalibrationError: The samples cannot be read.
    """
    if dataset is None:
        feeds: Sequence[Values] = random_feeds(model, runs)
        description = (
            f"pseudo-random input codes: uniform over the code range, both ends included, from "
            f"numpy.random.default_rng({RANDOM_SEED})"
        )
    else:
        read = list(batches(dataset, 1))
        feeds = [batch.arrays for batch in read]
        description = "samples " + ", ".join(name for batch in read for name in batch.names)
    return Samples(description, _layers(model, feeds))


def random_feeds(model: QuantizedModel, runs: int) -> list[dict[str, Array]]:
    """Pseudo-random inputs, the same in every call; an open first dimension (the batch) is 1.

    Codes are uniform and hold both ends of the code range; inputs that are not quantized are
    standard normal.

    Raises:
        ConfigError: Another size is open, or an input holds neither codes nor floats.
    """
    rng = np.random.default_rng(RANDOM_SEED)
    inputs = model.prepared.program.inputs
    return [
        {spec.name: _random_input(rng, spec, model.plan.params.get(spec.name)) for spec in inputs}
        for _ in range(runs)
    ]


def accumulator(node: Node, model: QuantizedModel, values: Values) -> npt.NDArray[np.int64] | None:
    """The exact sums of an integer node before they are requantized.

    A product's sums ``sum (x - z_x) (w - z_w) + bias``, shaped like its output, without Gemm's
    ``alpha``; an average's sums ``sum (x - z_x)``, a padded tap counting as 0. Never wrapped to 32
    bits.

    Returns:
        int64, or None where the op sums nothing up.
    """
    params, constants = model.plan.params, model.constants
    weight, bias = weight_and_bias(node)
    if not weight and node.op_type in ("AveragePool", "GlobalAveragePool"):
        return _window_sums(node, values[node.inputs[0]], params[node.inputs[0]])
    if not weight:
        return None
    inputs: list[Array | None] = []
    for name in node.inputs:
        if not name:
            inputs.append(None)
        elif name == bias:
            inputs.append(constants[name].data.astype(np.float64))
        elif name in constants:
            inputs.append(_centred_constant(constants[name]))
        else:
            inputs.append(np.subtract(values[name], params[name].zero_point, dtype=np.float64))
    attributes = {name: value for name, value in node.attributes.items() if name != "alpha"}
    plain = replace(node, attributes=attributes)
    return np.asarray(OPS[node.op_type].float_form(plain, inputs)[0]).astype(np.int64)


def _layers(model: QuantizedModel, feeds: Sequence[Values]) -> Iterator[LayerCodes]:
    sessions = {name: open_integer_session(model, arithmetic=name) for name in ARITHMETICS}
    network = sessions["onnxruntime"]
    passes = [network.run_steps(feed) for feed in feeds]
    for position, runs in enumerate(zip(*passes, strict=True)):
        step = network.steps[position]
        if step.kernel is None:
            continue
        node, outputs, tables = step.node, {}, {}
        inputs = {name: [values[name] for _, values, _ in runs] for name in step.data}
        for name, session in sessions.items():
            other = session.steps[position]
            made = [
                found if session is network else session.run_step(other, values)
                for _, values, found in runs
            ]
            outputs[name] = {key: _stacked(key, [one[key] for one in made]) for key in made[0]}
            if _is_tabulated(step, model):
                every = {step.data[0]: every_code(model.plan.params[step.data[0]])}
                (tables[name],) = session.run_step(other, every).values()
        yield LayerCodes(
            node,
            {name: _stacked(name, arrays) for name, arrays in inputs.items()},
            _sums(node, model, [values for _, values, _ in runs]),
            outputs,
            tables,
        )


def _is_tabulated(step: Step, model: QuantizedModel) -> bool:
    """Whether each output code depends on one 8-bit input code alone."""
    op = OPS[step.node.op_type]
    is_elementwise = isinstance(op, Activation | Power) or op.rule.clamps
    return is_elementwise and model.plan.params[step.data[0]].dtype.itemsize == 1


def _stacked(name: str, arrays: Sequence[Array]) -> Array:
    if len({array.shape for array in arrays}) > 1:
        raise ShapeMismatchError(
            f"{name!r} has another shape in another sample; export one with --num-samples 1"
        )
    return np.stack(arrays)


def _sums(node: Node, model: QuantizedModel, runs: Sequence[Values]) -> Array | None:
    """The accumulators of all runs as the kernels hold them: int64 with 16-bit codes, else int32.

    Averages of 16-bit codes take int64 only where int32 may not hold them.
    """
    sums = [total for values in runs if (total := accumulator(node, model, values)) is not None]
    if not sums:
        return None
    stacked = np.stack(sums)
    x = operand_params(node.inputs[0], model)
    weight, _ = weight_and_bias(node)
    if weight:
        return stacked.astype(sums_of(x, operand_params(weight, model)).integer)
    pixels = math.prod(node.integers("kernel_shape", runs[0][node.inputs[0]].shape[2:]))
    is_wide = (pixels * (x.qmax - x.qmin)).bit_length() > 31
    return stacked if is_wide else stacked.astype(np.int32)


def _centred_constant(tensor: QuantizedTensor) -> Array:
    _, zero_point = tensor.params.aligned(tensor.data.ndim)
    return np.subtract(tensor.data, zero_point, dtype=np.float64)


def _window_sums(node: Node, x_q: Array, x: QuantParams) -> npt.NDArray[np.int64]:
    centred = x_q.astype(np.int64) - x.zero_point
    if node.op_type == "GlobalAveragePool":
        return np.asarray(centred.sum(axis=tuple(range(2, x_q.ndim)), keepdims=True))
    kernel_shape = node.integers("kernel_shape", ())
    centred = crop_same(node, centred, kernel_shape)
    windows = node_windows(node, centred.shape[2:], kernel_shape)
    padded = pad_codes(centred, windows, 0)
    total = np.zeros((*x_q.shape[:2], *windows.output_shape), np.int64)
    for tap in windows.taps():
        total += padded[tap]
    return total


def _random_input(rng: np.random.Generator, spec: TensorSpec, params: QuantParams | None) -> Array:
    if spec.shape is None or not all(isinstance(size, int) for size in spec.shape[1:]):
        raise ConfigError(f"input {spec.name!r} has the open shape {spec.shape}; give --data")
    if 0 in spec.shape:
        raise ConfigError(f"input {spec.name!r} of shape {spec.shape} holds no values")
    # An open batch is 1.
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    if params is not None:
        codes: Array = rng.integers(params.qmin, params.qmax + 1, shape).astype(params.dtype)
        codes.reshape(-1)[[0, -1]] = params.qmin, params.qmax
        return codes
    if not np.issubdtype(spec.dtype, np.floating):
        raise ConfigError(f"input {spec.name!r} holds {spec.dtype}, no activations; give --data")
    return rng.standard_normal(shape).astype(spec.dtype)
