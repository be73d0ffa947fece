"""Random networks: chains and joins of every op, several readers and outputs, odd geometries."""

import numpy as np

from tests.small_networks import Network

CHANNELS, SIZE = 4, 8
_SIMPLE = (
    "Relu({0})",
    "Relu({0})",
    "Clip({0}, low, high)",
    "Clip({0}, zero, six)",
    "Clip({0}, negative_low, low)",
    "Identity({0})",
    "MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [1,1]>({0})",
    "AveragePool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [1,1]>({0})",
    "Transpose<perm = [0,1,3,2]>({0})",
    "Shrink<lambd = 0.0>({0})",
    "Sigmoid({0})",
    "Softmax({0})",
)


def random_network(seed: int) -> Network:
    """Every value is (N, 4, 8, 8) until the end; each op reads values made before it."""
    rng = np.random.default_rng(seed)
    parameters = [f"float[N,{CHANNELS},{SIZE},{SIZE}] x"]
    values, lines = ["x"], []
    for number in range(int(rng.integers(2, 9))):
        name = f"v{number}"
        source = str(values[-1] if rng.random() < 0.7 else rng.choice(values))
        kind = int(rng.integers(0, 5))
        if kind < 2:
            group = int(rng.choice([1, 2, CHANNELS]))
            kernel, dilation = (int(n) for n in rng.choice([[1, 1], [3, 1], [3, 2]]))
            pad = dilation * (kernel // 2)
            weight, bias = f"w{number}", f"b{number}"
            parameters.append(f"float[{CHANNELS},{CHANNELS // group},{kernel},{kernel}] {weight}")
            attributes = f"group = {group}, dilations = {[dilation] * 2}, pads = {[pad] * 4}"
            operands = f"{source}, {weight}"
            if rng.random() < 0.5:
                parameters.append(f"float[{CHANNELS}] {bias}")
                operands += f", {bias}"
            lines.append(f"{name} = Conv<{attributes}>({operands})")
        elif kind == 2:
            lines.append(f"{name} = Add({source}, {rng.choice(values)})")
        else:
            lines.append(f"{name} = " + str(rng.choice(_SIMPLE)).format(source))
        values.append(name)
    read = " ".join(line.split("=", 1)[1] for line in lines)
    ends = [v for v in values[1:] if f"({v}" not in read and f", {v}" not in read]
    outputs = sorted({*ends, values[-1], *rng.choice(values[1:], 1)})
    shape = f"float[N,{CHANNELS},{SIZE},{SIZE}]"
    constants = """
      low = Constant<value = float {0.25}>()
      high = Constant<value = float {0.5}>()
      zero = Constant<value = float {0.0}>()
      six = Constant<value = float {6.0}>()
      negative_low = Constant<value = float {-0.5}>()
    """
    text = (
        f"({', '.join(parameters)}) => ({', '.join(f'{shape} {name}' for name in outputs)}) {{"
        + constants
        + "\n".join(lines)
        + "\n}"
    )
    return Network(text, (CHANNELS, SIZE, SIZE))
