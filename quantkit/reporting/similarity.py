"""How alike two tensors are, summed up over samples: SQNR and cosine similarity."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array
from quantkit.numerics.metrics import SqnrSums

_NOTHING = SqnrSums()


@dataclass(frozen=True, slots=True)
class Similarity:
    """The sums that both numbers are made of.

    Attributes:
        sqnr: Of the reference and of the difference.
        energy: ``sum(actual**2)``, float64.
        product: ``sum(reference * actual)``, float64.
    """

    sqnr: SqnrSums = _NOTHING
    energy: float = 0.0
    product: float = 0.0

    @classmethod
    def of(cls, reference: Array, actual: Array) -> "Similarity":
        """The sums of one sample.

        Raises:
            ShapeMismatchError: The shapes differ.
            NonFiniteRangeError: NaN or infinity in either array.
        """
        sqnr = SqnrSums.of(reference, actual)
        x, y = _flat(reference), _flat(actual)
        return cls(sqnr, float(np.sum(y * y)), float(np.sum(x * y)))

    def __add__(self, other: "Similarity") -> "Similarity":
        return Similarity(
            self.sqnr + other.sqnr, self.energy + other.energy, self.product + other.product
        )

    @property
    def db(self) -> float:
        """SQNR; see :class:`SqnrSums`."""
        return self.sqnr.db

    @property
    def cosine(self) -> float:
        """``<a, b> / (|a| |b|)``; of two all-zero tensors 1, of an all-zero and another one 0."""
        norms = math.sqrt(self.sqnr.signal * self.energy)
        if norms == 0.0:
            return 1.0 if self.sqnr.signal == self.energy else 0.0
        return min(max(self.product / norms, -1.0), 1.0)


def _flat(x: Array) -> npt.NDArray[np.float64]:
    return np.asarray(x, np.float64).reshape(-1)
