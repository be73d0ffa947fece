"""Runs models over data: how right they are, and whether two engines agree code by code.

- ``engines``: a float file, a quantized file in onnxruntime, the integer session: one signature.
- ``samples``: data opened with the preprocessing a model was calibrated with.
- ``file_boundaries``: files whose inputs or outputs are codes, fed with and giving real values.
- ``integer_share``: how much of a network runs in integers, planned and measured.
- ``accuracy``: top-1, top-5, agreement and SQNR of several engines over the same samples.
- ``metric``, ``measurement``: one number for each of many variants of a network.
- ``input_check``, ``first_layer``: whether data look like what the network was trained on.
- ``verification``: integer session, onnxruntime and the float reference, layer by layer;
  ``side_by_side`` runs them, ``oracle`` gets onnxruntime's codes, ``exact_codes`` finds ties,
  ``integer_layers`` joins a node and the clamp that is part of it.
- ``hardware``: what every node asks of the hardware; ``product_pairs`` judges 16-bit saturation,
  ``output_codes`` counts where codes lie.
- ``layer_codes``: what every integer node reads, sums up and writes, also for golden vectors.
"""
