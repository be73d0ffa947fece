"""Pairs of products that x86 without VNNI adds in 16 bits: which can saturate, and which do.

onnxruntime's matrix kernels for uint8 activations and int8 weights multiply with ``vpmaddubsw``
where the processor has AVX2 or AVX-512 but no VNNI: it adds two neighbouring products and saturates
the sum to int16. (MLAS: ``QgemmU8S8KernelAvx2.S``, ``QgemmU8S8KernelAvx512Core.S`` and
``ConvSymKernelAvx2.S`` take four neighbours of K at a time, two pairs; ``platform.cpp`` tells which
kernel runs where.) K runs over the kernel's taps first and over the channels of the group inside a
tap (``ReorderFilter`` in ``qlinearconv.cc``; activations are transposed to channels-last before),
and over the inner axis of Gemm and MatMul; a pair is K = 2j and 2j + 1, the last one alone where K
is odd. The products are of the codes as stored; zero points are taken out afterwards.

Not concerned, since these kernels widen to 16 bits before they multiply (``vpmaddwd``,
``vpmullw``): depthwise convolutions (``MlasConvDepthwiseKernelAvx2``,
``MlasConvSymDepthwiseKernelAvx2``), uint8 weights (``MlasGemmU8U8DispatchAvx2``) and products of
two activations. int8 activations of a QDQ file are concerned: on x86 onnxruntime turns them into
uint8 before it fuses anything (its ``QDQS8ToU8`` transformer; measured in 1.32: QLinearConv gets
``code + 128``).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quantkit.graph.program import Array, Node
from quantkit.numerics.affine import QuantParams
from quantkit.ops.windows import crop_same, node_windows, pad_codes
from quantkit.quantized_model.model import QuantizedModel, weight_and_bias

_INT16 = np.iinfo(np.int16)
_LARGEST_CODE = 255
# Bytes of one block of pair sums.
_BLOCK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class ProductPairs:
    """The weights of one layer, two neighbours of K at a time.

    Attributes:
        node: The layer.
        x: Parameters of its input.
        weight: int32 (group, O / group, pairs, 2): the codes as stored, 0 where K is odd.
        can_saturate: bool (group, O / group, pairs): whether some input codes exceed int16.
        kernel_shape: Taps per spatial axis of a convolution; () of a matrix product.
    """

    node: Node
    x: QuantParams
    weight: npt.NDArray[np.int32]
    can_saturate: npt.NDArray[np.bool_]
    kernel_shape: tuple[int, ...]

    def count_saturated(self, x_q: Array) -> tuple[int, int]:
        """How many sums of two products leave int16, and how many sums there are.

        Args:
            x_q: The layer's input codes.
        """
        columns = self._columns(x_q)
        group, outputs, pairs = np.nonzero(self.can_saturate)
        step = max(1, _BLOCK_BYTES // (4 * max(1, columns.shape[2])))
        saturated = 0
        for start in range(0, len(pairs), step):
            block = slice(start, start + step)
            weight = self.weight[group[block], outputs[block], pairs[block]]
            total = columns[group[block], 2 * pairs[block]] * weight[:, :1]
            total += columns[group[block], 2 * pairs[block] + 1] * weight[:, 1:]
            saturated += int(np.count_nonzero((total > _INT16.max) | (total < _INT16.min)))
        return saturated, self.can_saturate.size * columns.shape[2]

    def _columns(self, x_q: Array) -> npt.NDArray[np.uint8]:
        """What the weights meet: (group, K, positions), unsigned codes, K made even."""
        group, pairs = len(self.weight), self.weight.shape[2]
        if not self.kernel_shape:
            rows = x_q.T if self.node.integer("transA", 0) else x_q
            columns = rows.reshape(-1, rows.shape[-1]).T[np.newaxis]
        else:
            x_q = crop_same(self.node, x_q, self.kernel_shape)
            windows = node_windows(self.node, x_q.shape[2:], self.kernel_shape)
            padded = pad_codes(x_q, windows, int(self.x.zero_point))
            # Per tap (N, C, *output) -> (group, C / group, N * positions).
            taps = [
                padded[tap].swapaxes(0, 1).reshape(group, padded.shape[1] // group, -1)
                for tap in windows.taps()
            ]
            columns = np.concatenate(taps, axis=1)
        even = np.zeros((group, 2 * pairs, columns.shape[2]), np.uint8)
        even[:, : columns.shape[1]] = columns.view(np.uint8) ^ np.uint8(-self.x.qmin)
        return even


def product_pairs(node: Node, model: QuantizedModel) -> ProductPairs | None:
    """The pairs of an integer node, or None where no kernel adds them in 16 bits.

    A MatMul with a constant that is no matrix is not judged.
    """
    weight_name, _ = weight_and_bias(node)
    weight = model.constants.get(weight_name)
    if weight is None or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    if node.op_type == "MatMul" and weight.data.ndim != 2:
        return None
    x = model.plan.params[node.inputs[0]]
    if weight.data.dtype != np.int8 or x.dtype.itemsize > 1:
        return None
    codes, kernel_shape = weight.data, ()
    if node.op_type == "Conv":
        group, kernel_shape = node.integer("group", 1), codes.shape[2:]
        is_depthwise = codes.shape[1] == 1 and len(codes) == group
        if is_depthwise:
            return None
        by_tap = codes.reshape(group, len(codes) // group, codes.shape[1], math.prod(kernel_shape))
        rows = by_tap.swapaxes(2, 3).reshape(group, len(codes) // group, -1)
    else:
        rows = (codes if node.integer("transB", 0) else codes.T)[np.newaxis]
    even = np.zeros((*rows.shape[:2], rows.shape[2] + rows.shape[2] % 2), np.int32)
    even[..., : rows.shape[2]] = rows
    pairs = even.reshape(*rows.shape[:2], -1, 2)
    highest = _LARGEST_CODE * np.maximum(pairs, 0).sum(axis=-1)
    lowest = _LARGEST_CODE * np.minimum(pairs, 0).sum(axis=-1)
    can_saturate = (highest > _INT16.max) | (lowest < _INT16.min)
    return ProductPairs(node, x, pairs, can_saturate, kernel_shape)
