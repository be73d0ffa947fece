"""What every op promises, and the registry of ops.

An op knows arrays, attributes and quantization parameters; it knows no graph. The planner reads
the declarative :class:`QuantRule`; the float session calls :meth:`Op.float_form`; the integer
session calls :meth:`Op.lower` once per node and then runs the kernel it returns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from quantkit.errors import UnsupportedOpError
from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import FloatArray, IntegerArray, QuantizedTensor, QuantParams
from quantkit.numerics.arithmetic import Arithmetic
from quantkit.registry import Registry

Kernel = Callable[[Sequence[IntegerArray]], tuple[IntegerArray, ...]]
"""Integer codes of the activation inputs in, integer codes of the outputs out."""


@dataclass(frozen=True, slots=True)
class QuantRule:
    """How the planner treats the op.

    Attributes:
        output: "own": the output has a range of its own. "same_as_input": codes are moved or
            clamped, so outputs and input 0 share their parameters. "fixed": the range follows from
            the function (``fixed_range``), whatever the data. "plain": the output is no quantized
            value (the indices of ArgMax).
        weight: Position of the weight input, or None.
        bias: Position of the bias input, or None. int32 with scale ``s_x * s_w``, zero point 0.
        fixed_range: The exact range of a "fixed" output.
        clamps: Whether the op is a clamp (Relu, Clip) its producer may absorb.
        data_inputs: Positions of inputs that carry data; None: all but weight and bias. Other
            inputs (shapes, pads, bounds) must be constants.
    """

    output: Literal["own", "same_as_input", "fixed", "plain"]
    weight: int | None = None
    bias: int | None = None
    fixed_range: tuple[float, float] | None = None
    clamps: bool = False
    data_inputs: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Lowering:
    """Everything an op may use to make its kernel; floats are allowed here, once.

    Attributes:
        node: Attributes and names.
        inputs: Per input position: parameters of an activation, codes of a quantized constant
            (weight, bias), a plain array (shape, pads, bounds), or None where absent.
        outputs: Parameters of each output that is present; none where the rule says "plain".
        arithmetic: How accumulators become codes.
        strict_integer: Whether kernels must not hold a float array, temporaries included.
        threads: How many threads a kernel may use; its codes do not depend on them.
    """

    node: Node
    inputs: tuple[QuantParams | QuantizedTensor | Array | None, ...]
    outputs: tuple[QuantParams, ...]
    arithmetic: Arithmetic
    strict_integer: bool = False
    threads: int = 1

    def params(self, position: int) -> QuantParams:
        """Parameters of the activation at ``position``."""
        value = self.inputs[position]
        assert isinstance(value, QuantParams)
        return value

    def codes(self, position: int) -> QuantizedTensor | None:
        """Codes of the quantized constant at ``position``, or None where absent."""
        value = self.inputs[position] if position < len(self.inputs) else None
        assert value is None or isinstance(value, QuantizedTensor)
        return value

    def array(self, position: int) -> npt.NDArray[Any] | None:
        """The plain constant at ``position``, or None where absent."""
        value = self.inputs[position] if position < len(self.inputs) else None
        assert value is None or isinstance(value, np.ndarray)
        return value


class Op(Protocol):
    """One ONNX op type (or several of one family). Ops subclass it for the defaults."""

    rule: QuantRule

    def weight_axis(self, node: Node, weight_ndim: int) -> int:
        """The axis of the weight that runs over output channels (unused without a weight)."""
        return 0

    def has_channel_scales(self, node: Node, weight_ndim: int) -> bool:
        """Whether the weight may have one scale per output channel."""
        return True

    def refusal(self, node: Node, constants: Sequence[Array | None]) -> str | None:
        """Why this node cannot have an integer kernel, or None.

        Args:
            node: The node.
            constants: Per input position the constant array, or None for a computed value.
        """
        return None

    def has_onnxruntime_kernel(self, node: Node) -> bool:
        """Whether onnxruntime computes ``DQ -> node -> Q`` in integers, or moves the codes.

        Where it does not, it runs a float island there: the planner then makes the node integer
        only between integer nodes, and codes may be off by one from onnxruntime's.
        """
        return True

    def float_form(self, node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The op in floats, ONNX semantics of ``node.version``.

        Raises:
            UnsupportedOpError: An attribute has no float form here.
        """

    def lower(self, lowering: Lowering) -> Kernel:
        """Make the integer kernel of one node.

        The kernel gets the codes of the *data* inputs (those that are not constants) in order and
        returns the codes of every output.

        Raises:
            UnsupportedOpError: The parameters ask for something the kernel does not do.
        """

    def macs(self, node: Node, shapes: Sequence[tuple[int, ...] | None]) -> int:
        """Multiply-accumulates of one run; ``shapes`` are inputs' then outputs'."""
        return 0


def real_input(inputs: Sequence[Array | None], position: int) -> FloatArray:
    """The float array at ``position`` of a float form's inputs.

    Raises:
        UnsupportedOpError: The input is absent or holds no floats.
    """
    value = optional_input(inputs, position)
    if value is None or not np.issubdtype(value.dtype, np.floating):
        found = "nothing" if value is None else str(value.dtype)
        raise UnsupportedOpError(f"input {position} must hold floats, got {found}")
    return value


def optional_input(inputs: Sequence[Array | None], position: int) -> npt.NDArray[Any] | None:
    """The array at ``position``, or None where absent."""
    return inputs[position] if position < len(inputs) else None


OPS: Registry[Op] = Registry("op", "quantkit.ops")
