"""Products whose codes are their int32 sums: ConvInteger and MatMulInteger.

QuantizeLinear makes no int32 codes, so such a product is no ``DQ -> op -> Q`` in a file.
"""

import onnx_ir as ir

_INTEGER_OPS = {"Conv": "ConvInteger", "MatMul": "MatMulInteger"}


def compute_sums_on_codes(graph: ir.Graph) -> None:
    """Let every product that int32 codes are asked of read codes and write its sums.

    Args:
        graph: With Q/DQ pairs; a Q with an int32 zero point must have scale 1 and zero point 0.
    """
    for quantize in tuple(graph):
        if quantize.op_type != "QuantizeLinear" or quantize.inputs[2] is None:
            continue
        real = quantize.inputs[0]
        product = real.producer() if real is not None else None
        if quantize.inputs[2].dtype != ir.DataType.INT32 or product is None:
            continue
        if product.op_type not in _INTEGER_OPS:
            continue
        sources = [value.producer() for value in product.inputs[:2] if value is not None]
        pairs = [(node.inputs[0], node.inputs[2]) for node in sources if node is not None]
        (x, x_zero), (weight, weight_zero) = pairs
        new = ir.Node(
            "",
            _INTEGER_OPS[product.op_type],
            [x, weight, x_zero, weight_zero],
            product.attributes.values(),
            name=product.name,
        )
        output, old = new.outputs[0], quantize.outputs[0]
        name, output.type, output.shape = old.name, old.type, old.shape
        graph.insert_before(quantize, new)
        ir.convenience.replace_all_uses_with(old, output)
        graph.remove([quantize, product], safe=True)
        output.name = name
