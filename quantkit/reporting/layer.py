"""What a report says of one layer, as plain data."""

import math
from collections.abc import Sequence

from quantkit.reporting.plain_data import Frozen


class Histogram(Frozen):
    """Counts of values on a linear axis.

    Attributes:
        start: Left end of the first bin.
        width: Of a bin.
        counts: Values per bin.
    """

    start: float
    width: float
    counts: tuple[int, ...]


class TensorRange(Frozen):
    """A layer's output: what it holds in floats, and what its codes can hold.

    Values are the float network's, as the quantized one has them: channels that equalization
    rescaled are rescaled here too.

    Attributes:
        dtype: Of the codes: "uint8", "int8", "uint16", "int16".
        scale: Per tensor.
        zero_point: Per tensor.
        low: The real value of the lowest code.
        high: That of the highest: beyond these clip lines values are cut off.
        minimum: Least value observed.
        maximum: Greatest value observed.
        clipped_percent: Values observed outside of the clip lines (0 behind an absorbed clamp that
            cuts there itself).
        histogram: Of the observed values, before clipping.
    """

    dtype: str
    scale: float
    zero_point: int
    low: float
    high: float
    minimum: float
    maximum: float
    clipped_percent: float
    histogram: Histogram


class WeightRanges(Frozen):
    """Greatest magnitude of every output channel of a weight.

    Attributes:
        source: In the float model's file, before BatchNormalization was folded; None where unknown.
        folded: Behind folding; None where unknown.
        quantized: In the quantized model: equalized where it was.
        scales: Of the codes; one number for all channels, or one each.
    """

    source: tuple[float, ...] | None
    folded: tuple[float, ...] | None
    quantized: tuple[float, ...]
    scales: tuple[float, ...]


class Accumulator(Frozen):
    """The sums of a layer and how they become codes.

    Attributes:
        bound: The largest magnitude any input can produce.
        bits: Of a signed integer that holds it.
        multiplier: Least and greatest over the channels, as real numbers.
        mantissa: int32 mantissa of the least and the greatest multiplier.
        shift: Right shift that belongs to each.
    """

    bound: int
    bits: int
    multiplier: tuple[float, float]
    mantissa: tuple[int, int]
    shift: tuple[int, int]


class Layer(Frozen):
    """What one layer loses, and its numbers.

    Attributes:
        node: The layer's name.
        op_type: Its op.
        value: The tensor that was compared: the layer's output, behind its clamp.
        macs: Multiply-accumulates of one sample; None where a dimension is not known.
        isolated_sqnr_db: Of the layer's output, with only this layer in integers; None for a float
            island.
        accumulated_sqnr_db: Of the same tensor, with the whole network up to here in integers.
        isolated_cosine: Cosine similarity, alone.
        accumulated_cosine: So far.
        network_sqnr_db: Of the network's outputs, with only this layer's weights and output in
            integers; None where it was not measured.
        saturated_percent: Share of output codes at an end of their range, where values may have
            been cut off; None where float. An end that is exactly real 0 (the zero point, as after
            a ReLU) is not counted: nothing is lost there.
        kept_float: Why the layer stays float; None where it is integer.
        output: None for a float island.
        weight: None without a weight.
        accumulator: None without products.
    """

    node: str
    op_type: str
    value: str
    macs: int | None
    isolated_sqnr_db: float | None
    accumulated_sqnr_db: float
    isolated_cosine: float | None = None
    accumulated_cosine: float | None = None
    network_sqnr_db: float | None = None
    saturated_percent: float | None
    kept_float: str | None
    output: TensorRange | None = None
    weight: WeightRanges | None = None
    accumulator: Accumulator | None = None


def worst_first(layers: Sequence[Layer]) -> list[Layer]:
    """Integer layers by what they do to the network's outputs, else by isolated SQNR."""
    judged = [layer for layer in layers if layer.isolated_sqnr_db is not None]

    def key(layer: Layer) -> tuple[float, float]:
        network = math.inf if layer.network_sqnr_db is None else layer.network_sqnr_db
        return network, layer.isolated_sqnr_db or 0.0

    return sorted(judged, key=key)
