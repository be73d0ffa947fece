"""Runs a QuantizedModel with integer kernels.

Values between kernels are integer codes. What cannot be integer runs as a float island: its inputs
are dequantized, its outputs are quantized where the plan gives them parameters; ``strict_integer``
refuses such a model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantkit.errors import ShapeMismatchError, UnknownNameError, UnsupportedModelError
from quantkit.graph.program import Array, Node, Program, TensorSpec
from quantkit.numerics.affine import QuantizedTensor, QuantParams, dequantize, quantize
from quantkit.numerics.arithmetic import ARITHMETICS
from quantkit.ops.contract import OPS, Kernel, Lowering
from quantkit.ops.float_node import run_float_node
from quantkit.ops.parallel import available_threads
from quantkit.plan import data_values, quantized_outputs
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node, ready to run.

    Attributes:
        node: The node.
        kernel: Its integer kernel, or None for a float island.
        data: Names of the computed values the kernel reads, in its order.
    """

    node: Node
    kernel: Kernel | None
    data: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class IntegerSession:
    """A lowered model; make one with :func:`open_integer_session`.

    Attributes:
        program: The prepared graph.
        steps: Its nodes in order.
        params: Parameters of the quantized values.
        constants: Real values of the constants that float islands read.
        last_use: Per step, the values that are read for the last time.
        arithmetic: Name of the requantization arithmetic.
        strict_integer: Whether no float array is ever made.
    """

    program: Program
    steps: tuple[Step, ...]
    params: Mapping[str, QuantParams]
    constants: Mapping[str, Array]
    last_use: tuple[tuple[str, ...], ...]
    arithmetic: str
    strict_integer: bool

    def __repr__(self) -> str:
        return f"IntegerSession({len(self.steps)} steps, {self.arithmetic} arithmetic)"

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; outputs in real values, as the exported model gives them.

        Args:
            feeds: Real values (quantized here), or codes, by input name.
        """
        names = [spec.name for spec in self.program.outputs]
        return {
            name: dequantize(value, self.params[name]) if name in self.params else value
            for name, value in self.run_codes(feeds, names).items()
        }

    def run_codes(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> dict[str, Array]:
        """Run one batch and give back any values: codes where quantized, otherwise floats.

        Args:
            feeds: Real values (quantized here), or codes, by input name.
            fetches: Names of values of the prepared graph.

        Raises:
            ShapeMismatchError: An input is missing or has another shape, or a name is no value of
                the graph.
        """
        values = self._inputs(feeds)
        wanted = set(fetches)
        results = {name: values[name] for name in wanted & set(values)}
        for _, _, outputs in self._run_steps(values):
            results |= {name: outputs[name] for name in wanted & set(outputs)}
        unknown = wanted - set(results)
        if unknown:
            raise ShapeMismatchError(f"{min(unknown)!r} is no value of the prepared graph")
        return {name: results[name] for name in fetches}

    def run_steps(
        self, feeds: Mapping[str, Array]
    ) -> Iterator[tuple[Step, Mapping[str, Array], Mapping[str, Array]]]:
        """Run one batch node by node.

        Args:
            feeds: Real values (quantized here), or codes, by input name.

        Yields:
            Each step, the values that are alive while it runs (its outputs among them), and its
            outputs; codes where quantized. The mapping of values changes with the next step.

        Raises:
            ShapeMismatchError: An input is missing or has another shape.
        """
        return self._run_steps(self._inputs(feeds))

    def _run_steps(
        self, values: dict[str, Array]
    ) -> Iterator[tuple[Step, Mapping[str, Array], Mapping[str, Array]]]:
        for step, forgotten in zip(self.steps, self.last_use, strict=True):
            outputs = self.run_step(step, values)
            values |= outputs
            yield step, values, outputs
            for name in forgotten:
                values.pop(name, None)

    def _inputs(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for spec in self.program.inputs:
            if spec.name not in feeds:
                raise ShapeMismatchError(
                    f"input {spec.name!r} is missing; got {', '.join(feeds) or 'nothing'}"
                )
            _require_shape(spec, feeds[spec.name])
            values[spec.name] = self._stored(spec.name, feeds[spec.name])
        return values

    def run_step(self, step: Step, values: Mapping[str, Array]) -> dict[str, Array]:
        """Run one node on values as :meth:`run_codes` holds them (codes where quantized)."""
        node = step.node
        if step.kernel is not None:
            outputs: Sequence[Array] = step.kernel([values[name] for name in step.data])
            return dict(zip(filter(None, node.outputs), outputs, strict=True))
        inputs = [self._real(name, values) if name else None for name in node.inputs]
        results = run_float_node(node, inputs)
        return {
            name: self._stored(name, array)
            for name, array in zip(node.outputs, results, strict=True)
            if name
        }

    def _real(self, name: str, values: Mapping[str, Array]) -> Array:
        if name in self.constants:
            return self.constants[name]
        value = values[name]
        return dequantize(value, self.params[name]) if name in self.params else value

    def _stored(self, name: str, array: Array) -> Array:
        params = self.params.get(name)
        if params is None or array.dtype == params.dtype:
            return array
        return quantize(np.asarray(array, np.float32), params)


def open_integer_session(
    model: QuantizedModel,
    *,
    arithmetic: str = "onnxruntime",
    strict_integer: bool = False,
    threads: int = 0,
) -> IntegerSession:
    """Lower a model: make every node's kernel. Floats are used here, once, and never afterwards.

    Args:
        model: The quantized model.
        arithmetic: "onnxruntime" or "fixed_point".
        strict_integer: Refuse float islands and use kernels that hold no float array.
        threads: How many threads a kernel may use; 0: one per core. Codes do not depend on it.

    Raises:
        UnknownNameError: No such arithmetic.
        UnsupportedModelError: ``strict_integer`` and a node stays float.
        UnsupportedOpError: A kernel cannot do what the parameters ask for.
    """
    if arithmetic not in ARITHMETICS:
        raise UnknownNameError(
            f"unknown arithmetic {arithmetic!r}; known: {', '.join(sorted(ARITHMETICS))}"
        )
    program = model.prepared.program
    if strict_integer and model.plan.kept_float:
        name, reason = next(iter(model.plan.kept_float.items()))
        others = len(model.plan.kept_float) - 1
        more = f", and so do {others} more" if others else ""
        raise UnsupportedModelError(
            f"strict integer: node {name!r} stays float ({reason}){more}; run without it"
        )
    threads = threads or available_threads()
    steps = tuple(_step(node, model, arithmetic, strict_integer, threads) for node in program.nodes)
    return IntegerSession(
        program=program,
        steps=steps,
        params=model.plan.params,
        constants=program.constants,
        last_use=program.last_uses(),
        arithmetic=arithmetic,
        strict_integer=strict_integer,
    )


def _require_shape(spec: TensorSpec, array: Array) -> None:
    wanted = spec.shape
    if wanted is not None and (
        len(wanted) != array.ndim
        or any(isinstance(w, int) and w != got for w, got in zip(wanted, array.shape, strict=True))
    ):
        raise ShapeMismatchError(f"input {spec.name!r} has shape {wanted}, got {array.shape}")


def _step(
    node: Node, model: QuantizedModel, arithmetic: str, strict_integer: bool, threads: int
) -> Step:
    if node.name in model.plan.kept_float:
        return Step(node, None, ())
    params, constants = model.plan.params, model.prepared.program.constants
    data = data_values(node, constants)
    # A bound or a shape that other nodes read as an operand stays a plain array here.
    quantized = {name for name in (*data, *weight_and_bias(node)) if name in model.constants}
    inputs: list[QuantParams | QuantizedTensor | Array | None] = []
    for name in node.inputs:
        if not name:
            inputs.append(None)
        elif name in quantized:
            inputs.append(model.constants[name])
        elif name in constants:
            inputs.append(constants[name])
        else:
            inputs.append(params[name])
    lowering = Lowering(
        node=node,
        inputs=tuple(inputs),
        outputs=tuple(params[name] for name in quantized_outputs(node)),
        arithmetic=ARITHMETICS[arithmetic],
        strict_integer=strict_integer,
        threads=threads,
    )
    computed = tuple(name for name in data if name not in quantized)
    return Step(node, OPS[node.op_type].lower(lowering), computed)
