"""onnxruntime's codes of every integer layer of a quantized file, and proof that they are its own.

The oracle is onnxruntime's fully optimized session of the file. Its codes are read by making the
tensors that hold them extra outputs. That may keep onnxruntime from fusing what it fuses in the
file as it is, so:

1. The session that shows codes must give the outputs of the session that shows none; tensors are
   left out until it does (on the first sample; later samples are checked and told).
2. Its optimized graph says which op writes every code. A QuantizeLinear behind a float op means
   that onnxruntime computes the layer in floats.
3. A layer whose codes cannot be shown, or that is no integer kernel only because they are, is cut
   out of the file and run by itself: codes in, codes out, fully optimized.

Q/DQ nodes that do the same to the same value are one in every session but that of the file as it
is: onnxruntime merges them, but not where codes are shown.

For int8 activations both sessions may use int8 kernels (``session.qdqisint8allowed``). By default
onnxruntime on x86 computes part of such a file on uint8 codes and part in floats, and no code of
that can be shown; its outputs are compared, and what it computes in floats is told.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantkit.errors import ModelError
from quantkit.evaluation.file_boundaries import file_inputs, real_outputs
from quantkit.evaluation.integer_layers import Layer
from quantkit.graph.model_io import load_model
from quantkit.graph.ort_session import (
    Model,
    OrtSession,
    between,
    open_session,
    open_with_program,
    optimized_program,
    with_outputs,
)
from quantkit.graph.program import Array, Node
from quantkit.ops.contract import OPS
from quantkit.passes.fold_constants import infer_shapes
from quantkit.plan import quantized_outputs
from quantkit.quantized_model.equal_pairs import merge_equal_pairs
from quantkit.quantized_model.model import QuantizedModel

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_LAYOUT = ("Transpose", "ReorderInput", "ReorderOutput")
_ROUNDING_OF_FLOATS = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Oracle:
    """Open sessions of one file; make one with :func:`open_oracle`.

    Attributes:
        tensors: Value -> the tensor with its codes, as far as they can be shown.
        alone: Layers that are run by themselves, by node name.
        in_floats: Integer nodes that onnxruntime computes in floats, and the op that does.
        not_compared: Integer nodes of which onnxruntime has no codes, with the reason.
    """

    tensors: Mapping[str, str]
    alone: Mapping[str, OrtSession]
    in_floats: Mapping[str, str]
    not_compared: Mapping[str, str]
    _path: Path
    _model: QuantizedModel
    _code_tensors: Mapping[str, str]
    _shown: OrtSession
    _plain: OrtSession
    _default: OrtSession | None

    def codes(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array], float]:
        """Run one batch.

        Args:
            feeds: Real values by input name; quantized here where the file wants codes.

        Returns:
            Codes by value; the outputs of the file as it is, real values; and by how much the
            outputs of the session that shows the codes differ from those (floats may round within
            1e-5 of the largest value).
        """
        inputs = file_inputs(self._model, feeds)
        shown, expected = self._shown.run(inputs), self._plain.run(inputs)
        codes = {
            value: inputs[tensor] if tensor in inputs else shown[tensor]
            for value, tensor in self.tensors.items()
        }
        return codes, real_outputs(self._model, expected), _difference(shown, expected)

    def run_alone(self, layer: Layer, values: Mapping[str, Array]) -> dict[str, Array]:
        """Run a layer of ``alone`` on codes; codes by value."""
        tensors = self._code_tensors
        found = self.alone[layer.node.name].run({tensors[x]: values[x] for x in layer.data})
        return {name: found[tensors[name]] for name in layer.outputs}

    def default_difference(
        self, feeds: Mapping[str, Array], expected: Mapping[str, Array]
    ) -> float | None:
        """By how much the default session's outputs differ; None where this is the default."""
        if self._default is None:
            return None
        found = self._default.run(file_inputs(self._model, feeds))
        real = real_outputs(self._model, found)
        return max(largest_gap(real[name], expected[name]) for name in expected)

    def default_in_floats(self) -> tuple[str, ...]:
        """Op types, with their number, that only the default session computes in floats."""
        here, there = (
            Counter(node.op_type for node in optimized_program(self._path, int8_kernels=int8).nodes)
            for int8 in (True, False)
        )
        more = there - here
        return tuple(
            f"{op_type} ({count})"
            for op_type, count in sorted(more.items())
            if op_type not in (*_PAIR, *_LAYOUT) and not op_type.startswith("Q")
        )


def open_oracle(
    path: Path, model: QuantizedModel, layers: Sequence[Layer], feeds: Mapping[str, Array]
) -> Oracle:
    """Open the sessions and find out what they can show.

    Args:
        path: The quantized file.
        model: The same file, read.
        layers: Of its integer session.
        feeds: The first sample.

    Raises:
        ModelError: onnxruntime cannot run the file.
    """
    coded = {name for layer in layers for name in (*layer.data, *quantized_outputs(layer.node))}
    is_int8 = any(model.plan.params[name].dtype == np.int8 for name in coded)
    file = load_model(path)
    infer_shapes(file)
    merged = merge_equal_pairs(file)
    code_tensors = {
        value: merged.get(tensor, tensor) for value, tensor in _code_tensors(model).items()
    }
    plain = open_session(path, int8_kernels=is_int8)
    inputs = file_inputs(model, feeds)
    expected = plain.run(inputs)
    plain_integers = {name: name for layer in layers for name in layer.outputs}
    tensors = {**plain_integers, **code_tensors}
    computed = {str(output.name) for node in file.graph for output in node.outputs}
    fed = {value: tensor for value, tensor in tensors.items() if tensor in inputs}
    tensors = {value: tensor for value, tensor in tensors.items() if tensor in computed}
    shown = _showable(
        file, list(dict.fromkeys(tensors.values())), inputs, expected, is_int8=is_int8
    )
    tensors = {value: tensor for value, tensor in tensors.items() if tensor in set(shown)} | fed
    session, optimized = open_with_program(
        with_outputs(file, shown), many_outputs=True, int8_kernels=is_int8
    )
    writers = optimized.producers()
    alone: dict[str, OrtSession] = {}
    in_floats: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for layer in layers:
        name = layer.node.name
        if not layer.outputs:
            reasons[name] = "the file has no tensor with its codes"
            continue
        is_shown = all(value in tensors for value in (*layer.data, *layer.outputs))
        float_op = _float_op(writers, tensors[layer.outputs[0]]) if is_shown else None
        if is_shown and (float_op is None or not _should_have_kernel(layer, model)):
            in_floats |= {} if float_op is None else {name: float_op}
            continue
        try:
            one, float_op_alone = _run_alone(file, model, code_tensors, layer, is_int8=is_int8)
        except ModelError as error:
            if float_op is not None:
                in_floats[name] = float_op
            else:
                reasons[name] = str(error)
            continue
        if not is_shown or float_op_alone is None:
            alone[name] = one
        if float_op_alone is not None:
            in_floats[name] = float_op_alone
    return Oracle(
        tensors=tensors,
        alone=alone,
        in_floats=in_floats,
        not_compared=reasons,
        _path=path,
        _model=model,
        _code_tensors=code_tensors,
        _shown=session,
        _plain=plain,
        _default=open_session(path) if is_int8 else None,
    )


def _should_have_kernel(layer: Layer, model: QuantizedModel) -> bool:
    """Whether onnxruntime has an integer kernel; all of them take 8 bits."""
    names = (*layer.data, *quantized_outputs(layer.node))
    widths = {model.plan.params[name].dtype.itemsize for name in names}
    return widths == {1} and OPS[layer.node.op_type].has_onnxruntime_kernel(layer.node)


def _showable(
    file: Model,
    tensors: list[str],
    feeds: Mapping[str, Array],
    expected: Mapping[str, Array],
    *,
    is_int8: bool,
) -> list[str]:
    """As many tensors as can be shown together without a change of the outputs: by halving."""
    session = open_session(with_outputs(file, tensors), int8_kernels=is_int8)
    if not tensors or not _difference(session.run(feeds, list(expected)), expected):
        return tensors
    if len(tensors) == 1:
        return []
    middle = len(tensors) // 2
    halves = [
        _showable(file, half, feeds, expected, is_int8=is_int8)
        for half in (tensors[:middle], tensors[middle:])
    ]
    if len(halves[0]) + len(halves[1]) == len(tensors):
        return halves[0]  # each half by itself, but not both
    return _showable(file, halves[0] + halves[1], feeds, expected, is_int8=is_int8)


def _float_op(writers: Mapping[str, Node], tensor: str) -> str | None:
    """The float op whose result is quantized to these codes; None if an integer op writes them."""
    node = writers.get(tensor)
    while node is not None and node.op_type in _LAYOUT:
        node = writers.get(node.inputs[0])
    if node is None or node.op_type != "QuantizeLinear":
        return None
    source = writers.get(node.inputs[0])
    return "" if source is None or source.op_type == "DequantizeLinear" else source.op_type


def _run_alone(
    file: Model,
    model: QuantizedModel,
    tensors: Mapping[str, str],
    layer: Layer,
    *,
    is_int8: bool,
) -> tuple[OrtSession, str | None]:
    """A session of one layer of the file, and the float op that computes it there, if any."""
    for value in (*layer.data, *layer.outputs):
        if value not in tensors:
            raise ModelError(f"the file has no tensor with the codes of {value!r}")
    inputs = {tensors[value]: model.plan.params[value].dtype for value in layer.data}
    outputs = [tensors[value] for value in layer.outputs]
    session, optimized = open_with_program(between(file, inputs, outputs), int8_kernels=is_int8)
    return session, _float_op(optimized.producers(), outputs[0])


def _code_tensors(model: QuantizedModel) -> dict[str, str]:
    """Value -> the file's tensor with its codes, inputs that are codes in the file included."""
    inputs = {spec.name for spec in model.prepared.program.inputs} & model.code_boundaries
    return {**model.code_tensors, **{name: name for name in inputs}}


def _difference(shown: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest difference; 0 within 1e-5 of the largest value, which float nodes may round."""
    return max(
        (
            gap
            for name, array in expected.items()
            if (gap := largest_gap(shown[name], array))
            > _ROUNDING_OF_FLOATS * np.abs(array.astype(np.float64)).max(initial=0.0)
        ),
        default=0.0,
    )


def largest_gap(actual: Array, expected: Array) -> float:
    """The largest difference of two arrays; NaN where either holds NaN."""
    gap = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    return float(gap.max(initial=0.0))
