"""Take the mean error that quantization leaves in each layer's output out of its bias, with data.

The error of a layer is that of the network quantized up to it, weights and activations together
(Nagel et al. 2019, Data-Free Quantization, arXiv:1906.04721, appendix D; Finkelstein et al. 2019,
Fighting Quantization Bias With Bias, arXiv:1906.03193). Layers are corrected in order, and each
gets what the corrected ones before it give: correcting all at once would correct what the first
ones did again in every later one.

Clipping fools a plain mean: what lies beyond the range of the output, or behind its clamp, is lost
whatever the bias is, and a shift that makes up for it spoils all other values. Therefore

1. sums are compared before they are clamped and rounded, ``W_q x_q + b_q`` with ``W x + b``, and
   only where the float network's lies within the range of the output;
2. their mean difference d is shrunk to ``d max(0, 1 - (2 s / d)^2)``, with s its standard error
   over the samples: noise is not followed;
3. samples held back judge: every channel by its squared error and, at the end, the network by that
   of its outputs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from quantkit.calibration.batches import none_readable, readable_batches
from quantkit.calibration.collector import Progress
from quantkit.calibration.dataset import Dataset
from quantkit.errors import ConfigError
from quantkit.evaluation.samples import evenly_spaced
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.graph.program import Array, Node
from quantkit.integer_session import open_integer_session
from quantkit.numerics.affine import QuantizedTensor, dequantize, quantize
from quantkit.ops.contract import OPS
from quantkit.passes.note import PassNote
from quantkit.quantized_model.constants import accumulator_max, quantize_bias
from quantkit.quantized_model.model import QuantizedModel, node_bound, weight_and_bias
from quantkit.recovery.block_values import Values
from quantkit.recovery.layer_sums import along_channels, open_layer
from quantkit.recovery.output_error import measured_values
from quantkit.recovery.side_by_side import each, first_values, kept, passed, sample_bytes

Float64Array = npt.NDArray[np.float64]

_LAYERS = ("Conv", "ConvTranspose", "Gemm")
# Of the samples, one in so many only judges; two others are needed for a standard error.
_HELD_BACK = 4
_FEWEST_SAMPLES = 3
# So many standard errors are taken for noise.
_NOISE = 2.0
# What the values alive at a time may take, over all samples.
_VALUES_BYTES = 256 * 1024 * 1024


def correct_biases_empirically(
    model: QuantizedModel,
    dataset: Dataset,
    *,
    num_samples: int = 32,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Correct the bias of every integer Conv, ConvTranspose and Gemm that has one.

    A network with a fixed batch counts a batch as one sample. With fewer than three samples, and
    where a node holds a graph of its own, nothing is corrected.

    Args:
        model: The quantized model; weights and scales stay.
        dataset: The samples; one in four only judges.
        num_samples: At most how many of them, evenly spaced; fewer where the values alive at a time
            would take more than 256 MiB.
        progress: Told after every node: nodes done, nodes in all.

    Returns:
        The model with new bias codes, bounds and one note. On the samples that judge, the squared
        error of its outputs (of what goes into a Softmax) is never larger than before.

    Raises:
        ConfigError: ``num_samples`` is below 1.
        UnreadableSampleError: Not one sample could be read.
    """
    if num_samples < 1:
        raise ConfigError(f"the number of samples must be at least 1, got {num_samples}")
    if any(node.has_subgraph for node in model.prepared.program.nodes):
        return _with_note(model, "every bias stays: a node holds a graph of its own", False)
    most = max(1, _VALUES_BYTES // sample_bytes(model))
    chosen = evenly_spaced(dataset, min(num_samples, most))
    feeds = [batch.arrays for batch in readable_batches(chosen, 1)]
    if not feeds:
        raise none_readable(chosen)
    if len(feeds) < _FEWEST_SAMPLES:
        return _with_note(model, "every bias stays: there are fewer than three samples", False)
    stages = _corrected_in_order(model, feeds, progress)
    errors = _output_errors(model, stages, feeds[::_HELD_BACK])
    best = next((count for count in errors if errors[count] < errors[0]), 0)
    if not best:
        return _with_note(
            model, "every bias stays: no correction helps on samples held back", False
        )
    gain = 10 * math.log10(errors[0] / errors[best]) if errors[best] else math.inf
    layers = "1 layer" if best == 1 else f"{best} layers"
    message = (
        f"biases of {layers} corrected for the mean error of their outputs: the squared error of "
        f"the network's outputs on samples held back fell by {gain:.1f} dB"
    )
    return _with_note(stages[best - 1], message, True)


def _corrected_in_order(
    model: QuantizedModel, feeds: Sequence[Mapping[str, Array]], progress: Progress | None
) -> list[QuantizedModel]:
    """The model after every layer that was corrected."""
    program = model.prepared.program
    values = first_values(model, feeds)
    # It runs what lies between layers: nothing that a new bias changes.
    session = open_integer_session(model, threads=1)
    stages: list[QuantizedModel] = []
    for position, step in enumerate(session.steps):
        if _is_layer(step.node, model):
            corrected, results = _corrected(model, step.node, values)
            stages += [] if corrected is model else [corrected]
            model = corrected
        else:
            results = passed(model, session, step, values)
        values = kept(program, position, values, results)
        if progress is not None:
            progress(position + 1, len(program.nodes))
    return stages


def _corrected(
    model: QuantizedModel, node: Node, values: Sequence[Values]
) -> tuple[QuantizedModel, list[Values]]:
    """The model with this layer corrected, or the same one; and what the layer then gives."""
    weight_name, bias_name = weight_and_bias(node)
    name, output, params = node.inputs[0], node.outputs[0], model.plan.params
    layer = open_layer(model, node)
    real = each(values, lambda _, value: layer.real(value))
    judges = range(0, len(values), _HELD_BACK)
    fitted = [at for at in range(len(values)) if at not in judges]
    coded = model.constants[bias_name]
    step = coded.params.scale.astype(np.float64)

    def moved(shift: Float64Array) -> tuple[QuantizedTensor, Float64Array]:
        """The bias with a shift, and the shift that its codes stand for."""
        weight = model.constants[weight_name].params
        bias = quantize_bias(coded.data * step + shift, params[name], weight)
        return bias, (bias.data.astype(np.float64) - coded.data) * step

    errors = each(
        [values[at] for at in fitted],
        lambda at, value: layer.errors_within_range(real[fitted[at]], layer.coded(value)),
    )
    _, shift = moved(_shift(np.array(errors)))
    squared = each(
        [values[at] for at in judges],
        lambda at, value: layer.squared_errors(real[judges[at]], layer.coded(value), shift),
    )
    before, after = np.array(squared).sum(axis=0)
    bias, shift = moved(np.where(after < before, shift, 0.0))
    new = {**model.constants, bias_name: bias}
    bound = node_bound(node, model.prepared.program, model.plan, new)
    if shift.any() and bound is not None and bound <= accumulator_max(params[name]):
        bounds = {**model.accumulator_bounds, node.name: bound}
        model = replace(model, constants=new, accumulator_bounds=bounds)
    else:
        shift = np.zeros_like(shift)
    return model, each(
        values,
        lambda at, value: Values(
            {output: real[at]},
            {output: quantize(layer.coded(value) + along_channels(shift, real[at]), layer.y)},
        ),
    )


def _shift(sums: Float64Array) -> Float64Array:
    """The mean error of every channel as far as it is no noise; sums are (samples, 2, C)."""
    errors, counts = sums[:, 0], sums[:, 1]
    samples, count = len(sums), np.maximum(counts.sum(axis=0), 1)
    mean = errors.sum(axis=0) / count
    # The mean is a ratio of two sums over samples: its variance by the delta method.
    residuals = np.square(errors - mean * counts).sum(axis=0)
    variance = residuals * samples / (samples - 1) / np.square(count)
    square = np.square(mean)
    noise = np.divide(_NOISE**2 * variance, square, out=np.ones_like(mean), where=square > 0)
    shrunk: Float64Array = mean * np.maximum(1 - noise, 0)
    return shrunk


def _output_errors(
    model: QuantizedModel,
    stages: Sequence[QuantizedModel],
    feeds: Sequence[Mapping[str, Array]],
) -> dict[int, float]:
    """By the number of layers corrected, squared errors of the outputs over their energies.

    Of no layers; then of all of them, or where that is worse of the first half, quarter, and so on.
    """
    names = measured_values(model.prepared.program)
    reference = open_session(with_outputs(model.prepared.model, names), threads=1)
    expected = [reference.run(feed, names) for feed in feeds]

    def error(candidate: QuantizedModel) -> float:
        session, params = open_integer_session(candidate), candidate.plan.params
        found, energy = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for feed, targets in zip(feeds, expected, strict=True):
            for name, value in session.run_codes(feed, names).items():
                real = dequantize(value, params[name]) if name in params else value
                found[name] += _sum_of_squares(np.subtract(real, targets[name], dtype=np.float64))
                energy[name] += _sum_of_squares(targets[name])
        return sum(found[name] / (energy[name] or 1.0) for name in names)

    errors = {0: error(model)}
    count = len(stages)
    while count:
        errors[count] = error(stages[count - 1])
        if errors[count] < errors[0]:
            break
        count //= 2
    return errors


def _sum_of_squares(array: Array) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _is_layer(node: Node, model: QuantizedModel) -> bool:
    if node.domain or node.op_type not in _LAYERS or node.name in model.plan.kept_float:
        return False
    names = weight_and_bias(node)
    if not set(names) <= model.constants.keys() or node.inputs[0] in model.constants:
        return False
    weight, bias = (model.constants[name] for name in names)
    channels = weight.data.shape[OPS[node.op_type].weight_axis(node, weight.data.ndim)]
    if node.op_type == "ConvTranspose":
        channels *= node.integer("group", 1)
    # Other tools' files may have one bias for all channels, or a scale of its own.
    wanted = quantize_bias(bias.data, model.plan.params[node.inputs[0]], weight.params).params
    has_own = bias.data.shape == (channels,) and bias.params.equals(wanted)
    return has_own and not node.integer("transA", 0)


def _with_note(model: QuantizedModel, message: str, is_changed: bool) -> QuantizedModel:
    note = PassNote("empirical_bias_correction", "", "", is_changed, message)
    return replace(model, notes=(*model.notes, note))
