"""The single source of every output: exporters and the integer session read nothing else.

- ``model``: :class:`QuantizedModel`, and ``quantize_model(prepared, plan, config)`` that makes one.
- ``constants``: float weights and biases to integer codes, with the proof that int32 holds.
- ``multipliers``: what turns sums of a node into codes, in both arithmetics.
- ``qdq_reader``: ``read_qdq(path)``, a QuantizedModel from any tool's file;
  ``QuantizedModel.from_qdq`` is the same.
- ``qoperator_rewrite``: QOperator nodes (QLinearConv ...) as Q/DQ pairs, before that;
  ``qoperator_forms``, ``qoperator_params``, ``channels_first``, ``code_movement`` and
  ``integer_products`` are its parts.
- ``qdq_params``: scale and zero point of its Q/DQ nodes, checked.
- ``qdq_pairs``: its Q/DQ pairs become parameters; ``code_boundaries``: inputs and outputs that are
  codes; ``folded_batch_norm`` and ``spread_scales``: what is folded into weight scales on request.
- ``equal_pairs``: Q/DQ nodes that do the same, made one; ``not_quantized``: what other files are.
- ``integer_nodes``: which of its nodes are integer, and why the others are not.
"""
