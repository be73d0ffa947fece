"""Everything that touches ONNX files and onnxruntime.

- ``program``: a graph as plain frozen data (nodes, constants, shapes): what kernels, plan and
  reports read. No ONNX library is needed to use it.
- ``model_io``: load, check and save models; digests; opset conversion; metadata.
- ``model_checks``: what makes a file unusable: not ONNX, truncated, NaN in a weight ...
- ``digest``: SHA-256 over a graph's content, however it is stored.
- ``surgery``: the few edits of an ``onnx_ir`` graph that passes and exporters share.
- ``cost``: multiply-accumulates, parameters and bytes per node.
- ``node_evaluation``: one node on arrays, for constant folding and ops without a float form.
- ``channel_outputs``: minimum, maximum and mean per channel as outputs of a session.
- ``ort_session``: onnxruntime sessions, the graph onnxruntime writes after optimizing, latency.
"""

import os

# Official builds of onnxruntime report models and sessions to their maker unless told not to, from
# the moment of the import on. Whoever wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
