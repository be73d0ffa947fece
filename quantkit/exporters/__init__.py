"""A QuantizedModel as a file, one format per module.

An exporter is a function registered with ``@EXPORTERS.register("name")`` that writes one format;
adding a format is adding a file here. The contract is in ``contract``.

- ``qdq``: ONNX with QuantizeLinear/DequantizeLinear pairs, which onnxruntime fuses into integer
  kernels.
- ``qoperator``: ONNX with operators that compute on codes (QLinearConv, QGemm ...), for runtimes
  that fuse nothing; ``moved_codes`` and ``integer_sums`` are its parts.
- ``file_boundaries``: inputs and outputs that were codes stay codes, in both.
- ``vectors``: a folder of golden vectors, per layer what it reads and must write, to check C or
  HDL against; ``vector_arrays`` and ``vector_index`` are its parts.
"""
