"""Files whose inputs or outputs are codes, fed with and compared as real values.

A :class:`QuantizedModel` has real values at all its ends. Where the file has codes instead
(``code_boundaries``), what it is fed is quantized, what it gives back is dequantized. Samples that
hold codes for such an input already are dequantized when they are read: quantizing brings the same
codes back, and the float model can be fed with them too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from quantkit.calibration.dataset import Dataset, Source
from quantkit.errors import UnreadableSampleError
from quantkit.graph.program import Array
from quantkit.numerics.affine import QuantParams, dequantize, quantize
from quantkit.quantized_model.model import QuantizedModel


def file_inputs(model: QuantizedModel, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What the file wants to be fed: codes where its inputs are codes."""
    return {
        name: quantize(array, model.plan.params[name])
        if name in model.code_boundaries and np.issubdtype(array.dtype, np.floating)
        else array
        for name, array in feeds.items()
    }


def real_outputs(model: QuantizedModel, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the file gives back, as real values."""
    return {
        name: dequantize(array, model.plan.params[name]) if name in model.code_boundaries else array
        for name, array in outputs.items()
    }


def real_samples(model: QuantizedModel, dataset: Dataset) -> Dataset:
    """The samples with real values where they hold codes for an input that is codes in the file."""
    inputs = {
        spec.name: model.plan.params[spec.name]
        for spec in model.prepared.program.inputs
        if spec.name in model.code_boundaries
    }
    return replace(dataset, source=_RealSource(dataset.source, inputs)) if inputs else dataset


@dataclass(frozen=True, slots=True, eq=False)
class _RealSource:
    _source: Source
    _params: Mapping[str, QuantParams]

    @property
    def names(self) -> tuple[str, ...]:
        return self._source.names

    @property
    def stamp(self) -> str:
        return self._source.stamp

    @property
    def splittable(self) -> bool:
        return self._source.splittable

    def read(self, index: int) -> dict[str, Array]:
        arrays = self._source.read(index)
        return {
            name: self._real(name, array, index) if name in self._params else array
            for name, array in arrays.items()
        }

    def _real(self, name: str, array: Array, index: int) -> Array:
        if array.dtype.kind not in "iu":
            return array
        params = self._params[name]
        if array.size and not params.qmin <= array.min() <= array.max() <= params.qmax:
            raise UnreadableSampleError(
                f"sample {self.names[index]!r} holds {array.min()} to {array.max()} for input "
                f"{name!r}, whose codes are {params.dtype}; give codes, or real values as floats"
            )
        return dequantize(array.astype(params.dtype), params)
