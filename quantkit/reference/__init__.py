"""Plain NumPy float layers, forward and backward: the float reference of every check.

Functions only, ONNX semantics and argument names, layout (N, C, *spatial) with one, two or three
spatial axes. float32 in gives float32 out, float64 gives float64. A layer that goes forward as
``name`` goes backward as ``name_backward``, which takes the gradient of the output first.

- ``arrays``: the array type and the shape checks of this package.
- ``windows``: where the windows of a convolution or pooling lie; padding, taps, im2col.
- ``conv``: convolution: pointwise, grouped and general by matrix product, depthwise by taps.
- ``conv_transpose``: transposed convolution, forward only.
- ``depthwise``: the depthwise kernel: shifted multiply-adds in cache-sized blocks.
- ``batch_norm``: batch normalization, inference and training form.
- ``activations``: relu, relu6, clip, softmax.
- ``pooling``: max, average and global average pooling.
- ``linear``: the fully connected layer.
- ``loss``: softmax cross-entropy.
- ``sgd``: one step of gradient descent with momentum and weight decay.
- ``mobilenet``: a MobileNetV1-style network made of the layers above.
"""
