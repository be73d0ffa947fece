"""quantkit: post-training quantization of ONNX networks, exact and explained.

Example:
    >>> import quantkit
    >>> result = quantkit.quantize("mobilenet.onnx", "pictures/")  # doctest: +SKIP
    >>> result.save("mobilenet.int8.onnx")  # doctest: +SKIP
"""
