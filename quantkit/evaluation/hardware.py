"""What hardware has to hold: accumulator bits, 16-bit saturation, multipliers, live activations.

Bounds are proved from the weights alone and hold for every input; what is observed holds for the
samples. Each sample is run by itself and forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from quantkit.calibration.batches import batches
from quantkit.calibration.dataset import Dataset
from quantkit.errors import ConfigError
from quantkit.evaluation.layer_codes import Values, accumulator, random_feeds
from quantkit.evaluation.output_codes import OutputCodes, clamped_ends, counted
from quantkit.evaluation.product_pairs import ProductPairs, product_pairs
from quantkit.graph.program import Array, Node
from quantkit.integer_session import Step, open_integer_session
from quantkit.plan import quantized_outputs
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.multipliers import Multipliers, accumulator_multipliers

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PairSaturation:
    """Sums of two products that ``vpmaddubsw`` saturates to int16; see ``product_pairs``.

    Attributes:
        weight_pairs: Pairs of neighbouring weights.
        can_saturate: How many of them some input codes saturate: proved from the weights.
        observed_sums: Sums that the samples made; 0 without samples.
        observed_saturated: How many of them leave int16.
    """

    weight_pairs: int
    can_saturate: int
    observed_sums: int
    observed_saturated: int

    @property
    def observed_share(self) -> float | None:
        """The share of saturated sums, in [0, 1]; None without samples."""
        return self.observed_saturated / self.observed_sums if self.observed_sums else None


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """What one node asks of the hardware.

    Attributes:
        node: Its name.
        op_type: Its op.
        is_integer: Whether it is no float island; islands have a ``live_bytes`` only.
        accumulator_bound: The largest ``|accumulator|`` any input can produce; None without a
            product.
        accumulator_bits: Bits, sign included, that hold any accumulator.
        observed_accumulator: The largest ``|accumulator|`` of the samples; None without samples.
        observed_bits: Bits, sign included, that hold it.
        vpmaddubsw_pairs: Saturation on x86 without VNNI; None where onnxruntime's kernels for this
            op do not add in 16 bits.
        mantissa: Smallest and largest fixed-point mantissa over the channels; None without one.
        shift: Smallest and largest shift over the channels; positive shifts left.
        codes: Where the output's codes lie.
        live_bytes: Bytes of all activations alive while the node runs, for one sample: its inputs,
            its outputs and whatever later nodes still read; codes as stored, values of float
            islands in float32. A view of another value (Flatten) costs nothing, and a clamp that
            its producer absorbs works in place; nothing else does. None where a size of an input
            is open and there are no samples. The network's peak is the largest of these.
    """

    node: str
    op_type: str
    is_integer: bool
    accumulator_bound: int | None
    accumulator_bits: int | None
    observed_accumulator: int | None
    observed_bits: int | None
    vpmaddubsw_pairs: PairSaturation | None
    mantissa: tuple[int, int] | None
    shift: tuple[int, int] | None
    codes: OutputCodes
    live_bytes: int | None

    @property
    def can_saturate(self) -> bool:
        """Whether x86 without VNNI gets it wrong for some input: proved from the weights."""
        return self.vpmaddubsw_pairs is not None and self.vpmaddubsw_pairs.can_saturate > 0

    @property
    def saturates_on_samples(self) -> bool | None:
        """Whether it does so on the samples; None without samples."""
        if self.vpmaddubsw_pairs is None:
            return None
        share = self.vpmaddubsw_pairs.observed_share
        return None if share is None else share > 0

    @property
    def needs_reduced_range(self) -> bool:
        """Whether it was seen to saturate on the samples; without samples, whether it can."""
        seen = self.saturates_on_samples
        return self.can_saturate if seen is None else seen

    @property
    def advice(self) -> str | None:
        """The option for ``needs_reduced_range``; None is a proof only without ``can_saturate``."""
        return f"--reduce-range-node {self.node}" if self.needs_reduced_range else None


@dataclass(slots=True)
class _Observed:
    """What the samples have shown so far of one node."""

    largest: int | None = None
    sums: int = 0
    saturated: int = 0
    codes: OutputCodes = field(default_factory=OutputCodes)
    live_bytes: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Proved:
    """What the weights and the graph alone tell of one integer node."""

    pairs: ProductPairs | None
    multipliers: Multipliers | None
    clamped_ends: tuple[bool, bool]


def hardware_verdicts(
    model: QuantizedModel, dataset: Dataset | None = None, *, progress: Progress | None = None
) -> tuple[LayerVerdict, ...]:
    """Judge every node.

    Args:
        model: The quantized model.
        dataset: Samples to observe; None: only what is proved, and ``live_bytes`` of one sample.
        progress: Told after every sample.

    Returns:
        One verdict per node, in graph order.

    Raises:
        CalibrationError: The samples cannot be read.
    """
    session = open_integer_session(model)
    proved = {
        step.node.name: _Proved(
            product_pairs(step.node, model),
            accumulator_multipliers(step.node, model),
            clamped_ends(step.node, model),
        )
        for step in session.steps
        if step.kernel is not None
    }
    observed = {step.node.name: _Observed() for step in session.steps}
    if dataset is None:
        try:
            (feeds,) = random_feeds(model, 1)
        except ConfigError:  # an open size: nothing can be run
            feeds = {}
        for step, values, _ in session.run_steps(feeds) if feeds else ():
            seen = observed[step.node.name]
            seen.live_bytes = _live_bytes(step.node, model, values)
    else:
        for batch in batches(dataset, 1):
            for step, values, outputs in session.run_steps(batch.arrays):
                seen = observed[step.node.name]
                live = _live_bytes(step.node, model, values)
                seen.live_bytes = max(seen.live_bytes or 0, live)
                if step.kernel is not None:
                    _observe(step, model, proved[step.node.name], values, outputs, seen)
            if progress is not None:
                progress(batch.indices[-1] + 1, len(dataset))
    return tuple(
        _verdict(step.node, model, proved.get(step.node.name), observed[step.node.name])
        for step in session.steps
    )


def _observe(
    step: Step,
    model: QuantizedModel,
    proved: _Proved,
    values: Values,
    outputs: Values,
    seen: _Observed,
) -> None:
    node = step.node
    if node.name in model.accumulator_bounds:
        sums = accumulator(node, model, values)
        if sums is not None:
            seen.largest = max(seen.largest or 0, int(np.abs(sums).max(initial=0)))
    if proved.pairs is not None:
        saturated, total = proved.pairs.count_saturated(values[node.inputs[0]])
        seen.saturated += saturated
        seen.sums += total
    for name in quantized_outputs(node):
        seen.codes = counted(
            seen.codes, outputs[name], model.plan.params[name], proved.clamped_ends
        )


def _verdict(
    node: Node, model: QuantizedModel, proved: _Proved | None, seen: _Observed
) -> LayerVerdict:
    bound = model.accumulator_bounds.get(node.name) if proved else None
    pairs = proved.pairs if proved else None
    fixed_point = proved.multipliers.fixed_point if proved and proved.multipliers else None
    return LayerVerdict(
        node=node.name,
        op_type=node.op_type,
        is_integer=proved is not None,
        accumulator_bound=bound,
        accumulator_bits=_bits(bound),
        observed_accumulator=seen.largest,
        observed_bits=_bits(seen.largest),
        vpmaddubsw_pairs=None
        if pairs is None
        else PairSaturation(
            pairs.can_saturate.size,
            int(np.count_nonzero(pairs.can_saturate)),
            seen.sums,
            seen.saturated,
        ),
        mantissa=_ends(fixed_point.mantissa) if fixed_point else None,
        shift=_ends(fixed_point.shift) if fixed_point else None,
        codes=seen.codes,
        live_bytes=seen.live_bytes,
    )


def _bits(largest: int | None) -> int | None:
    """Bits of a two's complement number that holds ``-largest`` to ``largest``."""
    return None if largest is None else largest.bit_length() + 1


def _ends(array: Array) -> tuple[int, int]:
    return int(array.min()), int(array.max())


def _live_bytes(node: Node, model: QuantizedModel, values: Values) -> int:
    """See ``LayerVerdict.live_bytes``; buffers that values share are counted once."""
    in_place = node.inputs[0] if node.name in model.prepared.clamps else None
    buffers: dict[int, int] = {}
    for name, array in values.items():
        owner = id(array if array.base is None else array.base)
        if name != in_place:
            buffers[owner] = max(buffers.get(owner, 0), array.nbytes)
    return sum(buffers.values())
