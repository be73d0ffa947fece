"""Preparation of the float graph, one pass per file.

A pass is a function that edits an ``onnx_ir`` model in place and returns notes: what it did and,
where it refused, why. Their order has meaning, so ``PREPARE_PASSES`` in ``prepare`` is one explicit
tuple: a new pass is one file and one line there.

- ``prepare``: the tuple, and ``prepare(model) -> Prepared``.
- ``lift_constants``: Constant nodes become initializers; local functions are inlined.
- ``fold_constants``: nodes with constant inputs are evaluated; Reshape gets a constant shape.
- ``remove_identity``: Identity and inference Dropout go.
- ``fold_pad``: a constant zero Pad moves into the Conv that reads it.
- ``fold_batch_norm``: BatchNormalization folds into Conv, ConvTranspose, Gemm or MatMul.
- ``batch_norm_to_affine``: what could not be folded becomes a depthwise 1x1 Conv.
- ``own_constants``: every weight and bias belongs to one node; a missing bias becomes zero.
- ``mark_clamps``: which Relu and Clip nodes their producer absorbs.
- ``trained_statistics``: what BatchNormalization recorded of the training data, for later checks.
- ``note``: the type of a note.
"""
