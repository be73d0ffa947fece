"""One file per op family: float form, integer kernel, quantization rule.

An op is an object registered under its ONNX name, ``OPS.register("Conv")(Conv())``; adding an op
is adding a file here. The contract is :class:`Op`; ``tests/ops/test_conformance.py`` runs every
registered op against its float form, onnxruntime and Python integers.

- ``contract``: :class:`Op`, :class:`QuantRule`, :class:`Lowering` and the registry ``OPS``.
- ``convolution``: Conv.          - ``gemm``: Gemm, MatMul.
- ``elementwise``: Add.           - ``clamp``: Relu, Clip.
- ``pooling``: MaxPool, AveragePool, GlobalAveragePool.
- ``movement``: Flatten, Reshape, Transpose, Squeeze, Unsqueeze, Identity.
- ``pad``: Pad.                   - ``softmax``: Softmax.
- ``normalization``: BatchNormalization (float form only; it is folded before quantization).

Not ops: ``depthwise`` (Conv's depthwise kernel), ``windows`` (strides, pads and ``auto_pad`` of a
node), ``weights`` (what Conv, Gemm and MatMul ask of their operands) and ``float_node``.
"""
