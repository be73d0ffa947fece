"""The index of golden vectors: for programs, and for whoever checks C or HDL against them."""

from collections.abc import Collection, Mapping
from typing import Any

from quantkit.exporters.contract import LayerCodes
from quantkit.graph.program import Array
from quantkit.ops.contract import OPS
from quantkit.plan import data_values
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias

_PRODUCT = """\
    acc = bias[c] + sum(weight_centred[c, ...] * (input_0 - input_0_zero_point))
    onnxruntime: q = rint(f32(f32(acc) * multiplier[c]))
    fixed_point: q = scaled(acc, mantissa[c], shift[c])
    output_0 = clamp(q + output_0_zero_point)

A border is padded with `input_0_zero_point`. `c` is the output channel; arrays of one element
hold for all channels. An `acc` of int32 wraps modulo 2^32 (only files of other tools can reach
that). An output of int32 is `acc` itself."""

_AVERAGE = """\
    acc = sum(input_0 - input_0_zero_point) over the window; taps in the border count as 0
    fixed_point: q = scaled(acc << left_shift, mantissa, shift); output_0 = clamp(q + zero point)
    onnxruntime, GlobalAveragePool: q = rint(f32(f32(acc) * multiplier)); output_0 as above
    onnxruntime, AveragePool of one unpadded window that covers the input, and of 16-bit codes: as
      GlobalAveragePool
    onnxruntime, other AveragePool: t = sum of f32(scale * (input_0 - input_0_zero_point)) tap by
      tap, each addition rounded to float32;
      output_0 = clamp(rint(f32(f32(f32(t / n) / output_0_scale) + output_0_zero_point)))

`n` is the window's entry in `tap_counts`; `left_shift`, `mantissa`, `shift` and `multiplier` have
one entry per number of taps in `counts`."""

_SUM = """\
    fixed_point: a = scaled((input_0 - its zero point) << left_shift, mantissa[0], shift[0]), b of
      input_1 likewise with [1]; output_0 = clamp(scaled(a + b, mantissa[2], shift[2]) +
      output_0_zero_point); Sub: a - b
    onnxruntime, Add of 8-bit codes of one dtype: r = multiplier, z_0, z_1 and z_y the zero points,
      c = f32(z_y - fma(r[0], z_0, f32(r[1] * z_1)));
      output_0 = clamp(rint(fma(input_0, r[0], fma(input_1, r[1], c))))

`fma` rounds once, to float32. Where input 0 has size 1 along the innermost axis that is not 1 in
both, onnxruntime swaps the operands of Add. Otherwise onnxruntime computes in float32:"""

_FLOAT_PAIR = """\
    onnxruntime, else: v_N = f32(scale * (input_N - its zero point)) of both inputs;
      output_0 = clamp(rint(f32(f32(v_0 op v_1) / output_0_scale)) + output_0_zero_point)"""

_MULTIPLIED = """\
    p = (input_0 - its zero point) * (input_1 - its zero point)
    fixed_point: output_0 = clamp(scaled(p, mantissa, shift) + output_0_zero_point)
    onnxruntime, 8-bit codes of one dtype:
      output_0 = clamp(rint(f32(f32(p * multiplier) + output_0_zero_point)))"""

_DIVIDED = """\
    fixed_point: k = 31 - bits of the largest |input_0 - its zero point| that its codes allow
      q = ((input_0 - its zero point) << k) / (input_1 - its zero point), halves away from zero
      output_0 = clamp(scaled(q, m, s) + output_0_zero_point)

`m` and `s` are the mantissa and shift of scale 0 / (scale 1 * output_0_scale * 2^k). A quotient by
zero is the largest code where input 0 is above its zero point, otherwise the smallest."""

_PARAMETRIC = """\
    where input_0 >= its zero point: input_0 rescaled to the output as Concat does; elsewhere Mul:
    fixed_point: clamp(scaled(input_0 - its zero point, m, s) + output_0_zero_point) with the
      mantissa and shift of scale 0 / output_0_scale; elsewhere scaled((input_0 - its zero point) *
      (input_1 - its zero point), m, s) with those of scale 0 * scale 1 / output_0_scale
    onnxruntime: v_N = f32(scale * (input_N - its zero point)); t = v_0 or f32(v_0 * v_1);
      output_0 = clamp(rint(f32(t / output_0_scale)) + output_0_zero_point)"""

_SELECTED = """\
    Inputs 1 and 2 are rescaled to the output as Concat does, then selected by the condition."""

_MEAN = """\
    acc = sum(input_0 - input_0_zero_point) over the axes, n values
    fixed_point: output_0 = clamp(scaled(acc << k, m, s) + output_0_zero_point), k the largest shift
      with n * (range of the codes) * 2^k < 2^31 (none for longer sums, which are 64-bit); m and s
      are the mantissa and shift of scale 0 / output_0_scale, divided by n * 2^k, halves up
    onnxruntime: M = f32(scale 0 / f32(output_0_scale * n));
      output_0 = clamp(rint(f32(f32(acc) * M)) + output_0_zero_point)"""

_SOFTMAX = """\
    d = (largest input_0 of the row) - input_0
    fixed_point: e = rint(2^24 * exp(-scale 0 * d)), a table by d; N = round(2^16 / output_0_scale);
      t = (sum of e in the row) << 16; q = (2 * e * N + t) / (2 * t), rounded down
    onnxruntime, 8-bit codes: e = f32(exp(shift - scale 0 * d)) with
      shift = max(0, f32(log(f32(FLT_MAX / length))) - 5); t = sum of e in order, each addition
      rounded to float32; N = floor(f32(1 / output_0_scale)); q = rint(e * N / t) in float64
    output_0 = clamp(q + output_0_zero_point)"""

_NORMALIZED = """\
    n values x per row: c = x - input_0_zero_point; d = n * c - sum(c); V = n * sum(c^2) - sum(c)^2
    E = round(epsilon * n^2 / scale 0^2), at least 1
    r = isqrt((V + E) * 4^k), k the largest with (V + E) * 4^k < 2^62
    t = (d * 2^(k + 19) + (r >> 1)) / r, rounded down
    output_0 = clamp(((t * G + B + 2^(g + 18)) >> (g + 19)) + output_0_zero_point)
    G = rint(2^g * gamma / output_0_scale), B = rint(2^(g + 19) * beta / output_0_scale), g at most
      23 and |G| at most 2^30"""

_RESAMPLED = """\
    nearest: codes are moved
    linear: along each axis output position p reads positions l and l + 1 with weights d - w and w
      (w / d is the exact fraction of the coordinate, or its nearest multiple of 1 / d where d would
      exceed 2^b, b = (61 - bits of a code) / axes); output_0 = rint(sum(weights * (input_0 - zero
      point)) / product of all d) + zero point"""

_CONCAT = """\
    Inputs with the output's scale and zero point are copied; other codes are rescaled first:
    fixed_point: clamp(scaled(input_N - its zero point, mantissa[N], shift[N]) + zero point)
    onnxruntime: clamp(rint(f32(f32(scale * (input_N - its zero point)) / output_0_scale)) + zero
      point)"""

_TRANSPOSED = """\
    acc[o, p] = bias[o] + sum of weight_centred[c, o, k] * (input_0[c, i] - input_0_zero_point) over
      all c, i, k with i * stride + k * dilation - pad = p; then as for Conv, c being o"""

_TABLE = """\
    output_0 = table_<arithmetic>[input_0 - smallest code of its dtype]"""

_MAXIMUM = """\
    output_0 = max(input_0) over the window; the border never wins"""

_MOVED = """\
    Codes are moved, selected or rescaled; the shapes, attributes and `parameter_N` say how."""

_FORMULAS = {
    **dict.fromkeys(("Conv", "Gemm", "MatMul"), _PRODUCT),
    "ConvTranspose": f"{_TRANSPOSED}\n\n{_PRODUCT}",
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), _AVERAGE),
    **dict.fromkeys(("Add", "Sub"), f"{_SUM}\n\n{_FLOAT_PAIR}"),
    "Mul": f"{_MULTIPLIED}\n{_FLOAT_PAIR}",
    "Div": f"{_DIVIDED}\n\n{_FLOAT_PAIR}",
    "PRelu": _PARAMETRIC,
    "Concat": _CONCAT,
    "Where": f"{_SELECTED}\n\n{_CONCAT}",
    "Softmax": _SOFTMAX,
    "ReduceMean": _MEAN,
    "LayerNormalization": _NORMALIZED,
    "Resize": _RESAMPLED,
    "MaxPool": _MAXIMUM,
}

_HEAD = """\
# Golden vectors

What every integer layer reads and must write. One `.npz` per layer: a zip of `.npy` files, one per
array, little-endian, C order, no pickles (`numpy.load(file, allow_pickle=False)`; in C, skip the
`.npy` header, whose length is the uint16 at byte 8, plus 10). `index.json` holds the same facts for
programs.

Inputs of the network: {samples}.

The first axis of `input_N` (computed inputs), `accumulator` and `output_N_*` counts the runs of the
network; the shape of one run follows. A constant input has no axis of runs.

## How to compare

Feed a layer `input_N`, and compare with `output_N_fixed_point` if it multiplies by mantissa and
shift, as TFLite, CMSIS-NN and most hardware do, or with `output_N_onnxruntime` if it multiplies in
float32. Every code must be equal. Both are computed from the same `input_N`, so that no error of an
earlier layer is carried on; they differ from each other by at most 1 in most layers. `accumulator`
tells whether a difference arises before or in requantization.

## Arrays

| array | dtype | what |
|---|---|---|
| `input_N`, `output_N_onnxruntime`, `output_N_fixed_point` | as stored | codes |
| `*_scale`, `*_zero_point` | float32, as the codes | real value = scale * (code - zero point) |
| `weight`, `weight_centred` | int8 or uint8, int16 | as stored; with its zero point subtracted |
| `bias` | int32 (int64 at 16 bits) | scale = input scale * weight scale, zero point 0 |
| `accumulator` | int32 or int64 | sums with bias, before requantization; int32 wraps modulo 2^32 |
| `multiplier`, `multiplier_bits` | float32, uint32 | onnxruntime's multiplier, and its bits |
| `mantissa`, `shift` | int32 | fixed-point multiplier: mantissa * 2^(shift - 31) |
| `left_shift` | int32 | what codes or sums are shifted by before they are multiplied |
| `output_N_clamp` | int32 | smallest and largest code that the layer writes |
| `kernel_shape`, `strides`, `dilations`, `pads`, `group` | int64 | begins, then ends; < 0: crop |
| `tap_counts`, `counts` | int64 | average: taps per output position; the numbers that occur |
| `table_onnxruntime`, `table_fixed_point` | as the output | per input code, ascending |
| `parameter_N` | any | constant input N that is no code: a bound, a shape, pads |

## Arithmetic

`clamp` saturates to `output_N_clamp`; `rint` rounds halves to even; `f32` rounds to float32. `>>`
rounds towards minus infinity. With 32-bit sums (gemmlowp, TFLite):

    scaled(a, m, s):
        a = saturate_int32(a << max(s, 0))
        h = min((a * m + 2^30) >> 31, 2^31 - 1)
        e = max(-s, 0)
        return h if e == 0 else (h + 2^(e - 1) - (1 if h < 0 else 0)) >> e

With 64-bit sums (16-bit activations, TFLite):

    scaled(a, m, s):
        r = min((m + 2^15) >> 16, 2^15 - 1)
        return saturate_int32((a * r + 2^(14 - s)) >> (15 - s))
"""


def index_entry(
    file: str, layer: LayerCodes, model: QuantizedModel, arrays: Mapping[str, Array]
) -> dict[str, Any]:
    """What ``index.json`` says of one layer, as JSON types."""
    node = layer.node
    weight, bias = weight_and_bias(node)
    roles = dict.fromkeys(data_values(node, model.prepared.program.constants), "constant")
    roles |= {weight: "weight", bias: "bias"}
    return {
        "file": file,
        "node": node.name,
        "op": node.op_type,
        "formula": formula(node.op_type, arrays),
        "attributes": {
            name: value.tolist() if hasattr(value, "tolist") else value
            for name, value in node.attributes.items()
        },
        "inputs": [
            {"name": name, "role": _role(name, roles, layer, model)} for name in node.inputs if name
        ],
        "outputs": [name for name in node.outputs if name],
        "differing_codes": _differing_codes(layer),
        "arrays": {
            name: {"dtype": array.dtype.name, "shape": list(array.shape)}
            for name, array in arrays.items()
        },
    }


def formula(op: str, arrays: Collection[str]) -> str:
    """What a layer of this op with these arrays computes, in Markdown."""
    text = _FORMULAS.get(op) or (_TABLE if "table_fixed_point" in arrays else None)
    if text is not None:
        return text
    return _MOVED if OPS[op].rule.output == "same_as_input" else _own_words(op)


def readme(index: Mapping[str, Any]) -> str:
    """The index as Markdown: how to read and compare, the ops' formulas, a table of the layers."""
    lines = [_HEAD.format(samples=index["samples"])]
    lines += ["## Formulas", ""]
    for text, ops in _ops_by_formula(index["layers"]).items():
        lines += [f"{', '.join(ops)}:", "", text, ""]
    lines += ["## Layers", "", "Inputs, sums and outputs as dtype and shape.", ""]
    lines += ["| file | node | op | inputs | accumulator | outputs |", "|---|---|---|---|---|---|"]
    for layer in index["layers"]:
        arrays = layer["arrays"]
        cells = [
            layer["file"],
            layer["node"].replace("|", "\\|"),
            layer["op"],
            _described(arrays, "input_", ("_scale", "_zero_point")),
            _described(arrays, "accumulator", ()),
            _described(arrays, "output_", ("_scale", "_zero_point", "_clamp", "_fixed_point")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if index["float_islands"]:
        lines += ["", "## Not here", "", "These nodes stay float:", ""]
        lines += [f"- {name}: {reason}" for name, reason in index["float_islands"].items()]
    return "\n".join(lines) + "\n"


def _role(name: str, roles: Mapping[str, str], layer: LayerCodes, model: QuantizedModel) -> str:
    if name in layer.inputs:
        return "computed"
    return roles.get(name, "parameter") if name in model.constants else "parameter"


def _differing_codes(layer: LayerCodes) -> int:
    """How many codes the two arithmetics make different of the same inputs."""
    first, *others = layer.outputs.values()
    return sum(int((other[name] != first[name]).sum()) for other in others for name in first)


def _ops_by_formula(layers: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for layer in layers:
        names = found.setdefault(layer["formula"], [])
        if layer["op"] not in names:
            names.append(layer["op"])
    return found


def _own_words(op: str) -> str:
    return "    " + (type(OPS[op]).__doc__ or op).strip().splitlines()[0]


def _described(arrays: Mapping[str, Any], prefix: str, without: tuple[str, ...]) -> str:
    found = [
        f"{array['dtype']} {'x'.join(map(str, array['shape'])) or 'scalar'}"
        for name, array in arrays.items()
        if name.startswith(prefix) and not name.endswith(without or ("\0",))
    ]
    return "<br>".join(found) or "-"
