"""What a pass did to a node, or why it refused."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class PassNote:
    """One sentence about one node.

    Attributes:
        pass_name: The pass, as its file is called.
        node: Name of the node.
        op_type: The node's op.
        applied: Whether the pass did its work; otherwise it refused.
        message: What was done, or the reason of the refusal.
    """

    pass_name: str
    node: str
    op_type: str
    applied: bool
    message: str


Pass = Callable[[ir.Model], list[PassNote]]
"""Edits the model in place and says what it did."""
