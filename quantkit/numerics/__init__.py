"""Numbers only, NumPy only: what the integers mean and how they are computed.

- ``affine``: scale and zero point; quantize, dequantize, parameters from a range.
- ``fixed_point``: int32 mantissa and shift, as gemmlowp and TFLite compute it.
- ``float32_requantize``: onnxruntime's float32 requantization, defined in integers.
- ``integer_gemm``: exact integer matrix products, carried in float32 where exactness is proved.
- ``code_table``: functions of 8-bit codes as tables of 256 or 65,536 entries.
- ``integer_softmax``: softmax with integers only.
- ``arithmetic``: the two named requantization arithmetics the kernels are written against;
  ``onnxruntime_arithmetic`` and ``fixed_point_arithmetic`` hold their formulas, ``requantizer``
  the types of the callables they return.
- ``metrics``: SQNR, cosine similarity, agreement, top-k.
- ``paired``: what a difference of two accuracies on the same samples is worth.
"""
