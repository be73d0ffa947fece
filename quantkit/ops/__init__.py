"""One file per op family: float form, integer kernel, quantization rule.

An op is an object registered under its ONNX name, ``OPS.register("Conv")(Conv())``; adding an op
is adding a file here. The contract is :class:`Op`; ``tests/ops/test_conformance.py`` runs every
registered op against its float form, onnxruntime and Python integers.

- ``contract``: :class:`Op`, :class:`QuantRule`, :class:`Lowering` and the registry ``OPS``.
- ``convolution``: Conv.          - ``conv_transpose``: ConvTranspose.
- ``gemm``: Gemm, MatMul.
- ``elementwise``: Add, Sub, Mul, Div, PRelu.
- ``selection``: Concat, Where, Min, Max.
- ``activations``: Sigmoid, LeakyRelu and every other function of one value (a table of codes).
- ``clamp``: Relu, Clip.
- ``pooling``: MaxPool, AveragePool, GlobalAveragePool.
- ``reduction``: ArgMax, ArgMin, ReduceMax, ReduceMin, ReduceMean, GlobalMaxPool.
- ``movement``: Flatten, Reshape, Transpose, Squeeze, Unsqueeze, Identity.
- ``slicing``: Slice, Split, Gather, Expand, Tile.
- ``space_depth``: DepthToSpace, SpaceToDepth.
- ``resize``: Resize.             - ``pad``: Pad.
- ``softmax``: Softmax.           - ``layer_normalization``: LayerNormalization.
- ``normalization``: BatchNormalization (float form only; it is folded before quantization).

Not ops: ``depthwise`` (Conv's depthwise kernel), ``windows`` (strides, pads and ``auto_pad`` of a
node), ``operands`` (computed or constant), ``sampling`` (coordinates of a Resize), ``weights``
(what Conv, Gemm and MatMul ask of their operands) and ``float_node``.
"""
