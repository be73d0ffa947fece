"""Numbers only, NumPy only: what the integers mean and how they are computed.

- ``affine``: scale and zero point; quantize, dequantize, parameters from a range.
- ``fixed_point``: int32 mantissa and shift, as gemmlowp and TFLite compute it.
- ``float32_requantize``: onnxruntime's float32 requantization, defined in integers.
- ``integer_gemm``: exact integer matrix products, carried in floats where exactness is proved.
- ``code_table``: functions of codes as tables, of one code or of a pair.
- ``float32_in_integers``: float32's roundings without a float, for codes too wide for a table.
- ``integer_softmax``: softmax with integers only.
- ``arithmetic``: the two named requantization arithmetics the kernels are written against;
  ``onnxruntime_arithmetic`` (with ``onnxruntime_elementwise``, ``_pooling`` and ``_softmax``) and
  ``fixed_point_arithmetic`` (with ``fixed_point_elementwise``) hold their formulas,
  ``requantizer`` the types of the callables they return.
- ``metrics``: SQNR, cosine similarity, agreement, top-k.
- ``paired``: what a difference of two accuracies on the same samples is worth.
"""
