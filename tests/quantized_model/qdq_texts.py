"""A Conv between Q/DQ pairs as ONNX text, of which tests replace lines; and its check."""

from pathlib import Path

import onnx_ir as ir

from quantkit.exporters.qdq import qdq_graph
from quantkit.quantized_model.model import QuantizedModel
from quantkit.quantized_model.qdq_reader import read_qdq
from tests.quantized_model.checks import check_equals_onnxruntime
from tests.small_networks import random_feeds

INITIALIZERS = {
    "xs": "float xs = {0.03}",
    "xz": "uint8 xz = {120}",
    "w": "int8[2,3,1,1] w_quantized = {10, -20, 127, -127, 64, 3}",
    "ws": "float[2] ws = {0.02, 0.01}",
    "wz": "int8[2] wz = {0, 0}",
    "b": "int32[2] b_quantized = {100, -400}",
    "bs": "float[2] bs = {0.0006, 0.0003}",
    "bz": "int32[2] bz = {0, 0}",
    "ys": "float ys = {0.04}",
    "yz": "uint8 yz = {100}",
}
NODES = {
    "xq": "[x_q] xq = QuantizeLinear(x, xs, xz)",
    "xd": "[x_dq] xd = DequantizeLinear(xq, xs, xz)",
    "wd": "[w_dq] wd = DequantizeLinear<axis = 0>(w_quantized, ws, wz)",
    "bd": "[b_dq] bd = DequantizeLinear<axis = 0>(b_quantized, bs, bz)",
    "c": "[conv] c = Conv(xd, wd, bd)",
    "yq": "[y_q] yq = QuantizeLinear(c, ys, yz)",
    "yd": "[y_dq] y = DequantizeLinear(yq, ys, yz)",
}
QUANTIZED_ON_LOAD = """[w_q] wq = QuantizeLinear<axis = 0>(w, ws, wz)
  wd = DequantizeLinear<axis = 0>(wq, ws, wz)"""
SHAPE = (3, 6, 6)


def write(
    folder: Path,
    changes: dict[str, str],
    outputs: str = "float[N,2,6,6] y",
    opset: int = 17,
) -> Path:
    """Write the Conv with some lines replaced; several lines may stand in the place of one."""
    initializers = {**INITIALIZERS, **{k: v for k, v in changes.items() if k in INITIALIZERS}}
    more = [v for k, v in changes.items() if k.startswith("+")]
    nodes = {**NODES, **{k: v for k, v in changes.items() if k in NODES}}
    lines = "\n".join(line for line in nodes.values() if line)
    model = ir.from_onnx_text(
        f'<ir_version: 8, opset_import: ["": {opset}, "com.microsoft": 1]>\n'
        f"network (float[N,3,6,6] x) => ({outputs})\n"
        f"<{', '.join(filter(None, [*initializers.values(), *more]))}> {{\n{lines}\n}}"
    )
    ir.save(model, folder / "q.onnx")
    return folder / "q.onnx"


def check(path: Path, *, kept_float: set[str]) -> QuantizedModel:
    """Read it; equal to onnxruntime, also after export; these nodes are float."""
    model = read_qdq(path)
    assert set(model.plan.kept_float) == kept_float
    feeds = random_feeds(model.prepared.model, SHAPE, 3, seed=0)
    check_equals_onnxruntime(model, path, feeds)
    check_equals_onnxruntime(model, qdq_graph(model), feeds)
    return model
