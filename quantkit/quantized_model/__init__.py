"""The single source of every output: exporters and the integer session read nothing else.

- ``model``: :class:`QuantizedModel`, and ``quantize_model(prepared, plan, config)`` that makes one.
- ``constants``: float weights and biases to integer codes, with the proof that int32 holds.
- ``qdq_reader``: ``read_qdq(path)``, a QuantizedModel from any tool's QDQ file.
- ``qdq_params``: scale and zero point of its Q/DQ nodes, checked.
- ``integer_nodes``: which of its nodes are integer, and why the others are not.
"""
