"""A prepared graph as text for golden files: no addresses, no array contents."""

from quantkit.graph.program import AttributeValue, Program, TensorSpec
from quantkit.passes.prepare import Prepared


def print_prepared(prepared: Prepared) -> str:
    """Inputs, one line per node, outputs, constants by shape, clamps, notes."""
    program = prepared.program
    lines = [f"input {_spec(spec)}" for spec in program.inputs]
    for node in program.nodes:
        attributes = ", ".join(f"{k}={_value(v)}" for k, v in sorted(node.attributes.items()))
        inputs = ", ".join(_operand(program, name) for name in node.inputs)
        outputs = ", ".join(_spec(program.specs[name]) for name in node.outputs if name)
        lines.append(f"{node.name}: {outputs} = {node.op_type}({inputs}) {{{attributes}}}")
    lines += [f"output {_spec(spec)}" for spec in program.outputs]
    lines += [f"clamp {clamp} of {owner}" for clamp, owner in prepared.clamps.items()]
    for note in prepared.notes:
        verb = "did" if note.applied else "refused"
        lines.append(f"{note.pass_name} {verb} {note.node} ({note.op_type}): {note.message}")
    return "\n".join(lines) + "\n"


def _spec(spec: TensorSpec) -> str:
    sizes = "?" if spec.shape is None else ", ".join(str(size) for size in spec.shape)
    return f"{spec.name} {spec.dtype}[{sizes}]"


def _operand(program: Program, name: str) -> str:
    if name not in program.constants:
        return name or "-"
    array = program.constants[name]
    if array.dtype.kind == "i" and array.size <= 8:
        return f"{name}={array.tolist()}"
    return f"{name} {array.dtype}{list(array.shape)}"


def _value(value: AttributeValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
