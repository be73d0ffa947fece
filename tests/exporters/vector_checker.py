"""Golden vectors checked as their README says: from the files alone, with Python integers."""

import json
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from quantkit.graph.program import Array

Arrays = dict[str, Array]
Position = tuple[int, ...]
ARITHMETICS = ("onnxruntime", "fixed_point")


def read_layers(folder: Path) -> Iterator[tuple[dict[str, Any], Arrays]]:
    """Every layer's entry in the index and its arrays."""
    index = json.loads((folder / "index.json").read_text("utf-8"))
    for entry in index["layers"]:
        with np.load(folder / entry["file"], allow_pickle=False) as file:
            yield entry, {name: file[name] for name in file.files}


def wrong_codes(
    entry: dict[str, Any], arrays: Arrays, positions: int | None = None
) -> dict[str, list[Position]]:
    """Where the output codes are not what the formula gives, by arithmetic.

    ``positions``: how many random output positions; None: all.
    """
    found: dict[str, list[Position]] = {}
    for arithmetic in ARITHMETICS:
        output = arrays[f"output_0_{arithmetic}"]
        every: Sequence[Position] = list(np.ndindex(output.shape))
        if positions is not None:
            chosen = np.random.default_rng(1).choice(len(every), min(positions, len(every)), False)
            every = [every[i] for i in chosen]
        code_of = _FORMULAS.get(entry["op"], _table)
        found[arithmetic] = [
            at for at in every if code_of(entry, arrays, arithmetic, at) != int(output[at])
        ]
    return found


def f32(value: Fraction) -> Fraction:
    """The nearest float32, halves to even (no denormals)."""
    if value == 0:
        return value
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    step = Fraction(2) ** (exponent - 23)
    return round(value / step) * step


def scaled(a: int, m: int, s: int) -> int:
    a = min(max(a << max(s, 0), -(2**31)), 2**31 - 1)
    h = min((a * m + 2**30) >> 31, 2**31 - 1)
    e = max(-s, 0)
    return h if e == 0 else (h + 2 ** (e - 1) - (1 if h < 0 else 0)) >> e


def scaled_64(a: int, m: int, s: int) -> int:
    r = min((m + 2**15) >> 16, 2**15 - 1)
    return min(max((a * r + (1 << (14 - s))) >> (15 - s), -(2**31)), 2**31 - 1)


def clamp(arrays: Arrays, code: int) -> int:
    low, high = arrays["output_0_clamp"].tolist()
    return int(min(max(code, low), high))


def real(array: Array) -> Fraction:
    return Fraction(float(array))


def _requantized(arrays: Arrays, arithmetic: str, total: int, channel: int) -> int:
    zero_point = int(arrays["output_0_zero_point"])

    def of(name: str) -> Array:
        flat = arrays[name].reshape(-1)
        return np.asarray(flat[channel if flat.size > 1 else 0])

    if arithmetic == "fixed_point":
        scale = scaled_64 if arrays["accumulator"].dtype == np.int64 else scaled
        return clamp(arrays, scale(total, int(of("mantissa")), int(of("shift"))) + zero_point)
    assert of("multiplier").tobytes() == of("multiplier_bits").tobytes()
    return clamp(arrays, round(f32(f32(Fraction(total)) * real(of("multiplier")))) + zero_point)


def _taps(arrays: Arrays, shape: Sequence[int], window: Position) -> Iterator[tuple[Any, Any]]:
    """Of one window: (position in the kernel, position in the input or None in the border)."""
    strides, dilations, pads = (arrays[name].tolist() for name in ("strides", "dilations", "pads"))
    for tap in product(*map(range, arrays["kernel_shape"].tolist())):
        at = tuple(
            w * s + t * d - p
            for w, s, t, d, p in zip(window, strides, tap, dilations, pads, strict=False)
        )
        inside = all(0 <= x < size for x, size in zip(at, shape, strict=True))
        yield tap, at if inside else None


def _conv(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    run, sample, channel, *window = at
    x, weight = arrays["input_0"][run, sample], arrays["weight_centred"]
    per_group = len(weight) // int(arrays["group"])
    first = channel // per_group * weight.shape[1]
    total = int(arrays["bias"].reshape(-1)[channel]) if "bias" in arrays else 0
    for tap, position in _taps(arrays, x.shape[1:], tuple(window)):
        for c in range(weight.shape[1]):
            if position is not None:
                centred = int(x[(first + c, *position)]) - int(arrays["input_0_zero_point"])
                total += centred * int(weight[(channel, c, *tap)])
    total = _wrapped(arrays, total)
    assert total == int(arrays["accumulator"][at])
    return _requantized(arrays, arithmetic, total, channel)


def _wrapped(arrays: Arrays, total: int) -> int:
    if arrays["accumulator"].dtype != np.int32:
        return total
    return (total + 2**31) % 2**32 - 2**31


def _product(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    *lead, channel = at
    row = arrays["input_0"][tuple(lead)]
    if "weight_centred" in arrays:
        weight = arrays["weight_centred"]
        column = weight[channel] if entry["attributes"].get("transB") else weight[:, channel]
        column_zero_point = 0
    else:
        column = arrays["input_1"][tuple(lead[:-1])][:, channel]
        column_zero_point = int(arrays["input_1_zero_point"])
    zero_point = int(arrays["input_0_zero_point"])
    total = int(arrays["bias"].reshape(-1)[channel]) if "bias" in arrays else 0
    for x, w in zip(row.tolist(), column.tolist(), strict=True):
        total += (x - zero_point) * (w - column_zero_point)
    total = _wrapped(arrays, total)
    assert total == int(arrays["accumulator"][at])
    return _requantized(arrays, arithmetic, total, channel)


def _transposed(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    """Two dimensions, one group, no dilation."""
    run, sample, channel, *place = at
    x, weight = arrays["input_0"][run, sample], arrays["weight_centred"]
    strides, pads = entry["attributes"]["strides"], entry["attributes"].get("pads", [0] * 4)
    total = int(arrays["bias"][channel]) if "bias" in arrays else 0
    for c, i, j in np.ndindex(x.shape):
        k = [p + pad - q * s for p, pad, q, s in zip(place, pads, (i, j), strides, strict=False)]
        if all(0 <= tap < size for tap, size in zip(k, weight.shape[2:], strict=True)):
            centred = int(x[c, i, j]) - int(arrays["input_0_zero_point"])
            total += centred * int(weight[(c, channel, *k)])
    assert total == int(arrays["accumulator"][at])
    return _requantized(arrays, arithmetic, total, channel)


def _operand(arrays: Arrays, position: int, at: Position) -> tuple[int, int, Fraction]:
    """Code, zero point and scale of an operand that is broadcast; constants have no runs."""
    codes = arrays[f"input_{position}"]
    shape = arrays["output_0_fixed_point"].shape
    code = int(np.broadcast_to(codes, shape)[at])
    zero_point = int(arrays[f"input_{position}_zero_point"])
    return code, zero_point, real(arrays[f"input_{position}_scale"])


def _pair(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    (a, z_a, s_a), (b, z_b, s_b) = (_operand(arrays, position, at) for position in (0, 1))
    z_y, s_y = int(arrays["output_0_zero_point"]), real(arrays["output_0_scale"])
    op = entry["op"]
    if arithmetic == "fixed_point" and op == "Mul":
        m, s = int(arrays["mantissa"]), int(arrays["shift"])
        return clamp(arrays, scaled((a - z_a) * (b - z_b), m, s) + z_y)
    if arithmetic == "fixed_point":
        ms, ss, left = (arrays[name].tolist() for name in ("mantissa", "shift", "left_shift"))
        first, second = (
            scaled((a - z_a) << left, ms[0], ss[0]),
            scaled((b - z_b) << left, ms[1], ss[1]),
        )
        total = first + second if op == "Add" else first - second
        return clamp(arrays, scaled(total, ms[2], ss[2]) + z_y)
    if op == "Add":
        r_a, r_b = map(real, arrays["multiplier"])
        offset = f32(z_y - f32(r_a * z_a + f32(r_b * z_b)))
        return clamp(arrays, round(f32(a * r_a + f32(b * r_b + offset))))
    if op == "Mul":
        product = f32((a - z_a) * (b - z_b) * real(arrays["multiplier"]))
        return clamp(arrays, round(f32(product + z_y)))
    difference = f32(f32(s_a * (a - z_a)) - f32(s_b * (b - z_b)))
    return clamp(arrays, round(f32(difference / s_y)) + z_y)


def _concat(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    """Along axis 1 of one run."""
    channel, position = at[2], 0
    while channel >= arrays[f"input_{position}"].shape[2]:
        channel -= arrays[f"input_{position}"].shape[2]
        position += 1
    name = f"input_{position}"
    code = int(arrays[name][(*at[:2], channel, *at[3:])])
    z_x, z_y = int(arrays[f"{name}_zero_point"]), int(arrays["output_0_zero_point"])
    s_x, s_y = real(arrays[f"{name}_scale"]), real(arrays["output_0_scale"])
    if (z_x, s_x) == (z_y, s_y):
        return code
    if arithmetic == "fixed_point":
        m, s = int(arrays["mantissa"][position]), int(arrays["shift"][position])
        return clamp(arrays, scaled(code - z_x, m, s) + z_y)
    return clamp(arrays, round(f32(f32(s_x * (code - z_x)) / s_y)) + z_y)


def _average(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    run, sample, channel, *window = at
    x = arrays["input_0"][run, sample, channel]
    z_x, z_y = int(arrays["input_0_zero_point"]), int(arrays["output_0_zero_point"])
    if entry["op"] == "GlobalAveragePool":
        codes = [*x.reshape(-1).tolist()]
        count, is_whole = len(codes), True
    else:
        places = [place for _, place in _taps(arrays, x.shape, tuple(window))]
        codes = [z_x if place is None else int(x[place]) for place in places]
        count = int(arrays["tap_counts"][tuple(window)])
        is_whole = x.shape == tuple(arrays["kernel_shape"]) and not arrays["pads"].any()
    total = sum(code - z_x for code in codes)
    assert total == int(arrays["accumulator"][at])
    which = arrays["counts"].tolist().index(count)
    if arithmetic == "fixed_point":
        left, m, s = (int(arrays[name][which]) for name in ("left_shift", "mantissa", "shift"))
        scale = scaled_64 if arrays["accumulator"].dtype == np.int64 else scaled
        return clamp(arrays, scale(total << left, m, s) + z_y)
    if is_whole or x.dtype.itemsize > 1:
        multiplier = real(arrays["multiplier"][which])
        return clamp(arrays, round(f32(f32(Fraction(total)) * multiplier)) + z_y)
    running = Fraction(0)
    for code in codes:
        running = f32(running + f32(real(arrays["input_0_scale"]) * (code - z_x)))
    mean = f32(f32(running / count) / real(arrays["output_0_scale"]))
    return clamp(arrays, round(f32(mean + z_y)))


def _maximum(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    run, sample, channel, *window = at
    x = arrays["input_0"][run, sample, channel]
    taps = _taps(arrays, x.shape, tuple(window))
    return max(int(x[place]) for _, place in taps if place is not None)


def _moved(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    output = arrays[f"output_0_{arithmetic}"]
    if entry["op"] == "Transpose":
        moved = np.stack([x.transpose(entry["attributes"]["perm"]) for x in arrays["input_0"]])
    else:
        moved = arrays["input_0"].reshape(output.shape)
    return int(moved[at])


def _table(entry: dict[str, Any], arrays: Arrays, arithmetic: str, at: Position) -> int:
    lowest = np.iinfo(arrays["input_0"].dtype).min
    return int(arrays[f"table_{arithmetic}"][int(arrays["input_0"][at]) - lowest])


_FORMULAS: dict[str, Callable[[dict[str, Any], Arrays, str, Position], int]] = {
    "Conv": _conv,
    "Gemm": _product,
    "MatMul": _product,
    "ConvTranspose": _transposed,
    **dict.fromkeys(("Add", "Sub", "Mul"), _pair),
    "Concat": _concat,
    "AveragePool": _average,
    "GlobalAveragePool": _average,
    "MaxPool": _maximum,
    "Flatten": _moved,
    "Reshape": _moved,
    "Transpose": _moved,
}
