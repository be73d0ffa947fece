"""What the float layers are held against: onnxruntime forward, central differences backward."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from quantkit.reference.arrays import FloatArray

AnyArray = npt.NDArray[Any]


def run_onnx(
    op_type: str,
    inputs: Sequence[AnyArray],
    attributes: dict[str, Any] | None = None,
    *,
    opset: int = 22,
    outputs: int = 1,
) -> list[AnyArray]:
    """Run one node in onnxruntime, with one thread."""
    values = [
        ir.Value(
            name=f"input_{position}",
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
        )
        for position, array in enumerate(inputs)
    ]
    node = ir.node(op_type, values, attributes or {}, num_outputs=outputs, name="node")
    for position, value in enumerate(node.outputs):
        value.name = f"output_{position}"
        value.type = values[0].type
    graph = ir.Graph(
        values, node.outputs, nodes=[node], opset_imports={"": opset}, name="single_node"
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # ONNX shape inference announces the window that ceil_mode drops; onnxruntime warns of it.
    options.log_severity_level = 3
    session = ort.InferenceSession(
        ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    feeds = {str(value.name): array for value, array in zip(values, inputs, strict=True)}
    results: list[AnyArray] = session.run(None, feeds)
    return results


def assert_close(got: FloatArray, expected: FloatArray, *, relative: float) -> None:
    """Same shape and dtype, and the largest error within ``relative`` of the largest value."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert np.isfinite(got).all()
    error = float(np.max(np.abs(got - expected), initial=0))
    limit = relative * float(np.max(np.abs(expected), initial=0))
    assert error <= limit, f"largest error {error:.3g} exceeds {limit:.3g}"


def assert_gradient(
    gradient: FloatArray,
    loss: Callable[[FloatArray], float],
    at: FloatArray,
    *,
    absolute: float,
    step: float = 1e-5,
) -> None:
    """Compare every entry with ``(loss(at + step) - loss(at - step)) / (2 step)``, in float64."""
    assert gradient.shape == at.shape
    assert gradient.dtype == at.dtype == np.float64
    numeric = np.empty_like(at)
    for index in np.ndindex(at.shape):
        above, below = at.copy(), at.copy()
        above[index] += step
        below[index] -= step
        numeric[index] = (loss(above) - loss(below)) / (2 * step)
    error = float(np.max(np.abs(gradient - numeric), initial=0))
    assert error <= absolute, f"largest error {error:.3g} exceeds {absolute:.3g}"
