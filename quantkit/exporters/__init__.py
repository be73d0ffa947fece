"""A QuantizedModel as a file, one format per module.

An exporter is a function registered with ``@EXPORTERS.register("name")`` that writes one format;
adding a format is adding a file here. The contract is in ``contract``.

- ``qdq``: ONNX with QuantizeLinear/DequantizeLinear pairs, which onnxruntime fuses into integer
  kernels.
"""
