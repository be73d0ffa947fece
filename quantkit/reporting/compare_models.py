"""Compares two quantized models: nodes, parameters, codes, metadata."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from quantkit.graph.program import Array, Node, Program, TensorSpec
from quantkit.numerics.affine import QuantizedTensor, QuantParams
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias
from quantkit.reporting.matched_nodes import MatchedNodes, match_nodes
from quantkit.reporting.model_differences import (
    ActivationDifference,
    ArithmeticDifference,
    ConstantDifference,
    FieldDifference,
    ModelDifferences,
    NamedNode,
    Role,
    TensorParams,
    Totals,
    field_differences,
)

_ROLES: tuple[Role, ...] = ("weight", "operand", "bias")
_JSON_FIELDS = ("channel_changes", "config", "preprocessing")


def compare_models(
    names: tuple[str, str],
    first: QuantizedModel,
    second: QuantizedModel,
    files: tuple[Program, Program],
) -> ModelDifferences:
    """Compare two quantized models.

    Args:
        names: Their file names.
        first: A model.
        second: Another.
        files: Their graphs as the files hold them.
    """
    programs = first.prepared.program, second.prepared.program
    matched = match_nodes(*programs)
    activations = list(_activation_pairs(first, second, matched))
    both = [(old, new) for _, old, new in activations if old and new]
    constants = list(_constant_pairs(first, second, matched))
    compared = [
        _constant_difference(node.name, role, old, new) for node, role, old, new in constants
    ]
    return ModelDifferences(
        first=names[0],
        second=names[1],
        totals=Totals(
            nodes=len(matched.pairs),
            activations=len(both),
            changed_activations=sum(1 for old, new in both if not old.equals(new)),
            **_code_totals(compared),
        ),
        boundaries=_boundaries(first, second),
        file_ops=_file_ops(*files),
        only_first=tuple(_named(node) for node in matched.only_first),
        only_second=tuple(_named(node) for node in matched.only_second),
        nodes=tuple(_node_differences(first, second, matched)),
        arithmetic=tuple(_arithmetic(first, second, matched)),
        activations=_changed_activations(activations),
        constants=tuple(
            sorted(
                (found for found in compared if _differs(found)),
                key=lambda found: (_ROLES.index(found.role), -_changed_share(found)),
            )
        ),
        metadata=field_differences(_fields(first.metadata), _fields(second.metadata)),
    )


def _named(node: Node) -> NamedNode:
    return NamedNode(node=node.name, op_type=node.op_type)


def _fields(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata with the fields of JSON objects one by one."""
    fields: dict[str, str] = {}
    for name, text in sorted(metadata.items()):
        try:
            value = json.loads(text) if name in _JSON_FIELDS else None
        except json.JSONDecodeError:
            value = None
        if isinstance(value, dict):
            fields |= {f"{name}.{key}": json.dumps(item) for key, item in value.items()}
        else:
            fields[name] = text
    return fields


def _file_ops(first: Program, second: Program) -> tuple[FieldDifference, ...]:
    counts = [Counter(node.op_type for node in program.nodes) for program in (first, second)]
    return field_differences(*({op: str(n) for op, n in sorted(ops.items())} for ops in counts))


def _boundaries(first: QuantizedModel, second: QuantizedModel) -> tuple[FieldDifference, ...]:
    def described(model: QuantizedModel) -> dict[str, str]:
        program = model.prepared.program
        ends = (("input", program.inputs), ("output", program.outputs))
        return {
            f"{kind} {spec.name}": _spec_text(spec, spec.name in model.code_boundaries)
            for kind, specs in ends
            for spec in specs
        }

    return field_differences(described(first), described(second))


def _spec_text(spec: TensorSpec, is_code: bool) -> str:
    sizes = ["?" if size is None else str(size) for size in spec.shape or ()]
    shape = "?" if spec.shape is None else "x".join(sizes) or "scalar"
    return f"{spec.dtype.name} {shape}{', as codes' if is_code else ''}"


def _node_differences(
    first: QuantizedModel, second: QuantizedModel, matched: MatchedNodes
) -> Iterator[FieldDifference]:
    for node, other in matched.pairs:
        old, new = _node_fields(node, first), _node_fields(other, second)
        old["reads"], new["reads"] = matched.read_by(node, other)
        yield from (
            found.model_copy(update={"name": f"{node.name}: {found.name}"})
            for found in field_differences(old, new)
        )


def _node_fields(node: Node, model: QuantizedModel) -> dict[str, str]:
    """Op, attributes and the constants that are no codes."""
    constants = model.prepared.program.constants
    fields = {"op": f"{node.domain}.{node.op_type}" if node.domain else node.op_type}
    fields |= {name: _value_text(value) for name, value in sorted(node.attributes.items())}
    is_float = node.name in model.plan.kept_float
    for position, name in enumerate(node.inputs):
        if name in constants and (is_float or name not in model.constants):
            fields[f"input {position}"] = _array_text(constants[name])
    return fields


def _value_text(value: object) -> str:
    return _array_text(value) if isinstance(value, np.ndarray) else repr(value)


def _array_text(array: Array) -> str:
    if array.size <= 8:
        return f"{array.dtype} {array.tolist()}"
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:8]
    return f"{array.dtype} {'x'.join(map(str, array.shape))}, sha256 {digest}"


def _arithmetic(
    first: QuantizedModel, second: QuantizedModel, matched: MatchedNodes
) -> Iterator[ArithmeticDifference]:
    for node, other in matched.pairs:
        old = first.plan.kept_float.get(node.name)
        new = second.plan.kept_float.get(other.name)
        if (old is None) == (new is None):
            continue
        quantized_in: Literal["first", "second"] = "first" if old is None else "second"
        yield ArithmeticDifference(
            node=node.name, op_type=node.op_type, quantized_in=quantized_in, reason=old or new or ""
        )


def _activation_pairs(
    first: QuantizedModel, second: QuantizedModel, matched: MatchedNodes
) -> Iterator[tuple[str, QuantParams | None, QuantParams | None]]:
    for value, other in matched.values.items():
        old, new = first.plan.params.get(value), second.plan.params.get(other)
        if old is not None or new is not None:
            yield value, old, new


def _changed_activations(
    pairs: list[tuple[str, QuantParams | None, QuantParams | None]],
) -> tuple[ActivationDifference, ...]:
    found = [
        ActivationDifference(
            value=value,
            first=_tensor_params(old),
            second=_tensor_params(new),
            scale_ratio=float(new.scale) / float(old.scale) if old and new else None,
        )
        for value, old, new in pairs
        if old is None or new is None or not old.equals(new)
    ]

    def key(change: ActivationDifference) -> tuple[float, int]:
        old, new = change.first, change.second
        if old is None or new is None or change.scale_ratio is None:
            return -math.inf, 0
        return -abs(math.log(change.scale_ratio)), -abs(new.zero_point - old.zero_point)

    return tuple(sorted(found, key=key))


def _tensor_params(params: QuantParams | None) -> TensorParams | None:
    if params is None:
        return None
    return TensorParams(
        dtype=params.dtype.name, scale=float(params.scale), zero_point=int(params.zero_point)
    )


def _constant_pairs(
    first: QuantizedModel, second: QuantizedModel, matched: MatchedNodes
) -> Iterator[tuple[Node, Role, QuantizedTensor, QuantizedTensor]]:
    """Codes of nodes that are integer in both; what several nodes share comes once."""
    seen: set[tuple[str, str]] = set()
    for node, other in matched.pairs:
        if node.name in first.plan.kept_float or other.name in second.plan.kept_float:
            continue
        weight, bias = weight_and_bias(node)
        for pair in zip(node.inputs, other.inputs, strict=False):
            if pair in seen or pair[0] not in first.constants or pair[1] not in second.constants:
                continue
            seen.add(pair)
            role: Role = "weight" if pair[0] == weight else "bias" if pair[0] == bias else "operand"
            yield node, role, first.constants[pair[0]], second.constants[pair[1]]


def _constant_difference(
    node: str, role: Role, old: QuantizedTensor, new: QuantizedTensor
) -> ConstantDifference:
    changed = largest = None
    if old.data.shape == new.data.shape:
        difference = np.abs(_centred(old) - _centred(new))
        changed, largest = int(np.count_nonzero(difference)), int(difference.max(initial=0))
    scales, others = (tensor.params.scale.reshape(-1) for tensor in (old, new))
    ratios = None
    if 1 in (scales.size, others.size) or scales.size == others.size:
        ratios = others.astype(np.float64) / scales.astype(np.float64)
    return ConstantDifference(
        node=node,
        role=role,
        dtypes=(old.data.dtype.name, new.data.dtype.name),
        shapes=(old.data.shape, new.data.shape),
        codes=old.data.size,
        changed_codes=changed,
        largest_code_change=largest,
        scales=others.size,
        changed_scales=None if ratios is None else int(np.count_nonzero(ratios != 1.0)),
        largest_scale_ratio=None if ratios is None else float(max(ratios, key=_distance)),
    )


def _distance(ratio: float) -> float:
    return abs(math.log(ratio))


def _centred(tensor: QuantizedTensor) -> Array:
    zero_point = tensor.params.aligned(tensor.data.ndim)[1]
    return tensor.data.astype(np.int64) - zero_point


def _differs(found: ConstantDifference) -> bool:
    same = found.shapes[0] == found.shapes[1] and found.dtypes[0] == found.dtypes[1]
    return not same or found.changed_codes != 0 or found.changed_scales != 0


def _changed_share(found: ConstantDifference) -> float:
    """Other shapes first."""
    return math.inf if found.changed_codes is None else found.changed_codes / max(found.codes, 1)


def _code_totals(compared: list[ConstantDifference]) -> dict[str, int]:
    totals: dict[str, int] = {}
    names: tuple[tuple[Role, str], ...] = (
        ("weight", "weight_codes"),
        ("bias", "biases"),
        ("operand", "operands"),
    )
    for role, name in names:
        of_role = [found for found in compared if found.role == role]
        totals[name] = sum(f.codes for f in of_role if f.changed_codes is not None)
        totals[f"changed_{name}"] = sum(f.changed_codes or 0 for f in of_role)
    return totals
