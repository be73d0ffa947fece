"""What ``verify`` found: counts per layer, the verdict, and where the networks part.

- Isolated: every kernel gets the codes that onnxruntime computed as its input, and its codes are
  compared with onnxruntime's.
- Accumulated: the integer session runs from the network's input.
- Float reference: the op's float form on the dequantized input codes, in float64, rounded to codes.

:mod:`quantkit.evaluation.side_by_side` runs them, :mod:`quantkit.evaluation.oracle` says what of
onnxruntime they are compared with, :mod:`quantkit.evaluation.exact_codes` what a tie is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from quantkit.evaluation.exact_codes import ExactCodes
from quantkit.evaluation.hardware import LayerVerdict
from quantkit.graph.program import Array


@dataclass(slots=True)
class CodeDifference:
    """Codes compared with onnxruntime's; counts grow as samples come in.

    Attributes:
        saturated: Codes where onnxruntime is at either end of the code range.
        unsaturated: All others.
        saturated_mismatches: Differing codes among the saturated.
        unsaturated_mismatches: Differing codes among the others.
        largest: The largest difference, in codes.
        ties: Codes whose exact value lies exactly on a half before rounding; counted only where
            the exact value is known.
        tie_mismatches: Differing codes among those.
        near_tie_mismatches: Differing codes whose exact value lies within 2^-12 (2^-6 for 16-bit
            codes) of a half, ties among them.
        exact_mismatches: Differing codes that are the exact value, rounded once: onnxruntime's are
            not.
        unexplained: Differing codes that are neither the exact value, rounded once, nor near a tie.
        largest_from_exact: The largest distance of a differing code from the exact value's code.
    """

    saturated: int = 0
    unsaturated: int = 0
    saturated_mismatches: int = 0
    unsaturated_mismatches: int = 0
    largest: int = 0
    ties: int = 0
    tie_mismatches: int = 0
    near_tie_mismatches: int = 0
    exact_mismatches: int = 0
    unexplained: int = 0
    largest_from_exact: int = 0

    @property
    def mismatches(self) -> int:
        """All differing codes."""
        return self.saturated_mismatches + self.unsaturated_mismatches

    @property
    def total(self) -> int:
        """All codes compared."""
        return self.saturated + self.unsaturated

    def add(self, actual: Array, oracle: Array, exact: ExactCodes | None = None) -> None:
        """Count one more pair of arrays; ``exact`` says what is right, if known."""
        info = np.iinfo(oracle.dtype)
        ends = int(np.count_nonzero((oracle == info.min) | (oracle == info.max)))
        self.saturated += ends
        self.unsaturated += oracle.size - ends
        if exact is not None:
            self.ties += int(np.count_nonzero(exact.is_tie))
        differ = actual != oracle
        if not differ.any():
            return
        wrong, right = actual[differ].astype(np.int64), oracle[differ].astype(np.int64)
        at_end = int(np.count_nonzero((right == info.min) | (right == info.max)))
        self.saturated_mismatches += at_end
        self.unsaturated_mismatches += right.size - at_end
        self.largest = max(self.largest, int(np.abs(wrong - right).max()))
        if exact is not None:
            self.tie_mismatches += int(np.count_nonzero(exact.is_tie[differ]))
            self.near_tie_mismatches += int(np.count_nonzero(exact.is_near_tie[differ]))
            distance = np.abs(wrong - exact.codes[differ].astype(np.int64))
            self.exact_mismatches += int(np.count_nonzero(distance == 0))
            is_explained = (distance == 0) | exact.is_near_tie[differ]
            self.unexplained += int(np.count_nonzero(~is_explained))
            self.largest_from_exact = max(self.largest_from_exact, int(distance.max()))


@dataclass(frozen=True, slots=True)
class LayerVerification:
    """One integer node (with the clamp that is part of it) against the oracle.

    Attributes:
        node: Its name.
        op_type: Its op.
        isolated: Equal input codes, against onnxruntime.
        accumulated: From the network's input, against onnxruntime; nothing where its codes cannot
            be shown within the network.
        float_reference: The op's float form, rounded to codes, against onnxruntime.
        accumulator_bound: Largest ``|accumulator|`` any input can produce; None without a weight.
        tolerance: Codes an isolated result may be off; None: any number, it is only shown.
        is_float_in_onnxruntime: Whether onnxruntime computes the layer in floats. It is then no
            better judge than the exact value: being near either is enough.
        must_be_exact: Whether, besides, every differing code must be the exact value, rounded once,
            or lie near a tie: so there, in onnxruntime's arithmetic.
        remark: Why it may be off, or how it was compared; empty for onnxruntime's integer kernel
            within the network.
    """

    node: str
    op_type: str
    isolated: CodeDifference = field(default_factory=CodeDifference)
    accumulated: CodeDifference = field(default_factory=CodeDifference)
    float_reference: CodeDifference = field(default_factory=CodeDifference)
    accumulator_bound: int | None = None
    tolerance: int | None = 0
    is_float_in_onnxruntime: bool = False
    must_be_exact: bool = False
    remark: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is within its tolerance."""
        if self.must_be_exact and self.isolated.unexplained:
            return False
        if self.tolerance is None or self.isolated.largest <= self.tolerance:
            return True
        return self.is_judged_by_exact_value

    @property
    def is_judged_by_exact_value(self) -> bool:
        """Whether onnxruntime's floats are off by more than the tolerance, but not these codes."""
        if self.tolerance is None or not self.is_float_in_onnxruntime:
            return False
        return self.isolated.largest > self.tolerance >= self.isolated.largest_from_exact


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first layer, in graph order, whose accumulated codes are not onnxruntime's.

    Attributes:
        node: Its name, or that of the float node behind all compared layers.
        op_type: Its op.
        mismatches: Its differing accumulated codes; 0 for a float node.
        reason: Why, in a sentence.
    """

    node: str
    op_type: str
    mismatches: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome over all samples.

    Attributes:
        arithmetic: Of the integer session.
        samples: How many.
        layers: Every integer node whose codes onnxruntime gives, in graph order.
        float_islands: Node -> why it is not integer.
        not_compared: Integer nodes of which onnxruntime gives no codes, with the reason.
        same_class: Samples whose predicted class is onnxruntime's; None without classes.
        output_values: Values of all outputs.
        differing_outputs: How many of them are not onnxruntime's, bit for bit.
        largest_output_difference: Of the real-valued outputs, integer session against onnxruntime.
        first_divergence: Where the accumulated codes part first; None where they never do.
        oracle_difference: Largest difference between the outputs of onnxruntime's session of the
            file as it is and of the one that shows its codes, 0 within the 1e-5 of the largest
            value that float nodes may round. Unless it is 0, the codes shown are not those
            it computes.
        default_difference: The same between the oracle and onnxruntime's default session, without
            tolerance; None where they are one and the same (no int8 activations).
        default_in_floats: Op types, with their number, that only the default session computes in
            floats; looked up only where the outputs differ.
        hardware: What every node asks of the hardware; empty unless asked for.
        integer_mac_percent: Share of multiply-accumulates in integer nodes; None without any, or of
            unknown shapes.
        is_made_by_quantkit: Whether quantkit wrote the file.
    """

    arithmetic: str
    samples: int
    layers: tuple[LayerVerification, ...]
    float_islands: Mapping[str, str]
    not_compared: Mapping[str, str]
    same_class: int | None
    output_values: int
    differing_outputs: int
    largest_output_difference: float
    first_divergence: Divergence | None
    oracle_difference: float
    default_difference: float | None
    default_in_floats: tuple[str, ...]
    hardware: tuple[LayerVerdict, ...] = ()
    integer_mac_percent: float | None = None
    is_made_by_quantkit: bool = False

    @property
    def judged(self) -> tuple[LayerVerification, ...]:
        """The layers with a tolerance; all others are only shown."""
        return tuple(layer for layer in self.layers if layer.tolerance is not None)

    @property
    def first_failure(self) -> LayerVerification | None:
        """The first layer whose isolated codes are further off than its tolerance."""
        return next((layer for layer in self.layers if not layer.passed), None)

    @property
    def passed(self) -> bool:
        """Whether every layer is within its tolerance, and the oracle is what it should be."""
        return self.first_failure is None and self.oracle_difference == 0.0
