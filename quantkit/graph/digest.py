"""What identifies a graph: its content, however it is stored."""

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir


class GraphDigest:
    """A SHA-256 over graphs: values, nodes, attributes, constants and the graphs inside nodes."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def hexdigest(self) -> str:
        """What was added so far."""
        return self._sha.hexdigest()

    def add_texts(self, *texts: str) -> None:
        """Add texts; their lengths make the sequence unambiguous."""
        for text in texts:
            encoded = text.encode()
            self._sha.update(len(encoded).to_bytes(8, "little") + encoded)

    def add_graph(self, graph: ir.Graph, opset_imports: Mapping[str, int]) -> None:
        """Add a graph; constants in order of their names."""
        for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
            for value in values:
                self.add_texts(kind, value.name or "", str(value.type), str(value.shape))
        for node in graph:
            version = node.version or opset_imports.get(node.domain, 1)
            self.add_texts("node", node.domain, node.op_type, str(version))
            self.add_texts(
                *(value.name or "" if value is not None else "" for value in node.inputs)
            )
            self.add_texts("->", *(output.name or "" for output in node.outputs))
            for name in sorted(node.attributes):
                self.add_texts("attribute", name)
                self._add_attribute(node.attributes[name], opset_imports)
        for name, value in sorted(graph.initializers.items()):
            if value.const_value is not None:
                self.add_texts("constant", name)
                self._add_tensor(value.const_value)

    def _add_attribute(self, attribute: ir.Attr, opset_imports: Mapping[str, int]) -> None:
        if attribute.is_ref():
            self.add_texts("reference", attribute.ref_attr_name or "")
            return
        match attribute.type:
            case ir.AttributeType.GRAPH:
                self.add_graph(attribute.as_graph(), opset_imports)
            case ir.AttributeType.GRAPHS:
                for graph in attribute.as_graphs():
                    self.add_graph(graph, opset_imports)
            case ir.AttributeType.TENSOR:
                self._add_tensor(attribute.as_tensor())
            case ir.AttributeType.FLOAT | ir.AttributeType.FLOATS:
                # In a file a float has 32 bits, in memory it may have more.
                self.add_texts(repr(np.float32(attribute.value).tolist()))
            case ir.AttributeType.INTS | ir.AttributeType.STRINGS:
                self.add_texts(repr(tuple(attribute.value)))
            case _:
                self.add_texts(repr(attribute.value))

    def _add_tensor(self, tensor: ir.TensorProtocol) -> None:
        self.add_texts(tensor.dtype.name, str(tuple(tensor.shape)))
        if tensor.dtype == ir.DataType.STRING:
            self.add_texts(*(repr(item) for item in tensor.numpy().reshape(-1).tolist()))
        else:
            self._sha.update(tensor.tobytes())
