"""From a prepared graph and its calibration table to the plan of its integers.

- ``refusals``: which nodes can be integers, and why the others stay float.
- ``code_types``: 8 or 16 bits, signed or not, and what a range means in them.
- ``ranges``: which values share a range, which are never clipped, and why.
- ``parameters``: :class:`QuantPlan`: scale and zero point of every quantized value.
"""

from quantkit.plan.code_types import activation_dtype, params_of_range
from quantkit.plan.parameters import QuantPlan, make_plan, tensors_to_calibrate
from quantkit.plan.refusals import (
    candidate_refusals,
    data_values,
    op_refusal,
    product_length,
    quantized_outputs,
)

__all__ = [
    "QuantPlan",
    "activation_dtype",
    "candidate_refusals",
    "data_values",
    "make_plan",
    "op_refusal",
    "params_of_range",
    "product_length",
    "quantized_outputs",
    "tensors_to_calibrate",
]
