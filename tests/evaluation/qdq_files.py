"""QDQ files written node by node, with chosen scales."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from quantkit.graph.program import Array

_ONE_NODE = """(float[N,8] x{second}, int8[8,8] wq, int32[8] bq) => (float[N,8] z)
<float sa={{{a}}}, float sw={{{w}}}, float sb={{{b}}}, float sc={{{c}}}, float sy={{{y}}},
 uint8 za={{120}}, uint8 zc={{77}}, uint8 zy={{131}}, int8 zw={{0}}, int32 zb={{0}}> {{
 aq = QuantizeLinear(x, sa, za)
 a = DequantizeLinear(aq, sa, za)
 {operands}
 {node}
 rq = QuantizeLinear(r, sy, zy)
 z = DequantizeLinear(rq, sy, zy)
}}"""
_WEIGHT = "w = DequantizeLinear(wq, sw, zw)\n b = DequantizeLinear(bq, sb, zb)"
_OPERAND = "cq = QuantizeLinear(x2, sc, zc)\n c = DequantizeLinear(cq, sc, zc)"

CHAIN = """(float[N,3,6,6] x, int8[4,3,3,3] wq, int8[4,4,1,1] vq) => (float[N,4,4,4] y)
<float sx={0.02}, uint8 zx={120}, float s1={0.031}, uint8 z1={100}, float s2={0.027},
 uint8 z2={90}, float s3={0.05}, uint8 z3={128}, float sw={0.01}, int8 zw={0}> {
 xq = QuantizeLinear(x, sx, zx)
 xd = DequantizeLinear(xq, sx, zx)
 w = DequantizeLinear(wq, sw, zw)
 [first] c = Conv(xd, w)
 q1 = QuantizeLinear(c, s1, z1)
 d1 = DequantizeLinear(q1, s1, z1)
 q2 = QuantizeLinear(d1, s2, z2)
 d2 = DequantizeLinear(q2, s2, z2)
 v = DequantizeLinear(vq, sw, zw)
 [second] e = Conv(d2, v)
 q3 = QuantizeLinear(e, s3, z3)
 y = DequantizeLinear(q3, s3, z3)
}"""


def write_qdq(path: Path, node: str, *, a: float, w: float, y: float) -> Path:
    """One node ``r = ...`` of ``a`` (codes of x), and of weight and bias or a second operand c."""
    is_sum = "(a, c)" in node
    text = _ONE_NODE.format(
        a=repr(a),
        w=repr(w),
        b=repr(a * w),
        c=repr(w),
        y=repr(y),
        node=node,
        second=", float[N,8] x2" if is_sum else "",
        operands=_OPERAND if is_sum else _WEIGHT,
    )
    if is_sum:
        text = text.replace(", int8[8,8] wq, int32[8] bq", "")
    return write_text(path, text)


def write_text(path: Path, text: str, constants: Mapping[str, Array] | None = None) -> Path:
    """A graph as ONNX text; integer graph inputs become random constants."""
    domains = '"": 17, "com.microsoft": 1'
    model = ir.from_onnx_text(f"<ir_version: 8, opset_import: [{domains}]>\nnetwork {text}")
    rng = np.random.default_rng(0)
    for value in tuple(model.graph.inputs):
        name, dtype = str(value.name), value.dtype
        if name.startswith("x"):
            continue
        assert dtype is not None
        shape = [size for size in value.shape or () if isinstance(size, int)]
        codes = rng.integers(-127, 128, shape).astype(dtype.numpy())
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor((constants or {}).get(name, codes), name=name)
        model.graph.register_initializer(value)
    ir.save(model, path)
    return path
