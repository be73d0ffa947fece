"""DepthToSpace and SpaceToDepth: channels become blocks of pixels and back; codes move.

DCR (depth, column, row) keeps the channels of one block position together, CRD the block positions
of one channel. onnxruntime 1.32 moves the codes of DepthToSpace; SpaceToDepth it runs on
dequantized values, which gives the same codes.
"""

import numpy as np

from quantkit.graph.program import Array, Node
from quantkit.ops.contract import OPS
from quantkit.ops.movement import Constants, Movement


def depth_to_space(x: Array, node: Node, _: Constants) -> Array:
    """ONNX DepthToSpace: (N, C, H, W) to (N, C / b^2, H * b, W * b)."""
    block = node.integer("blocksize", 1)
    n, c, h, w = x.shape
    channels = c // block**2
    if node.text("mode", "DCR") == "DCR":
        blocks = x.reshape(n, block, block, channels, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, channels, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return np.ascontiguousarray(blocks).reshape(n, channels, h * block, w * block)


def space_to_depth(x: Array, node: Node, _: Constants) -> Array:
    """ONNX SpaceToDepth: (N, C, H, W) to (N, C * b^2, H / b, W / b)."""
    block = node.integer("blocksize", 1)
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 3, 5, 1, 2, 4) if node.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    channels = c * block**2
    return np.ascontiguousarray(blocks.transpose(order)).reshape(
        n, channels, h // block, w // block
    )


OPS.register("DepthToSpace")(Movement(depth_to_space))
OPS.register("SpaceToDepth")(Movement(space_to_depth, is_moved_by_onnxruntime=False))
