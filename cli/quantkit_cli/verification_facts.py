"""What ``quantkit verify --json`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantkit_cli.hardware_output import hardware_facts

if TYPE_CHECKING:
    from quantkit.evaluation.verification import CodeDifference, Verification


def verification_facts(found: Verification) -> dict[str, Any]:
    """What ``--json`` prints.

    - ``passed``, ``arithmetic``, ``samples``, ``first_failure`` (a node's name or null).
    - ``end_to_end``: ``identical`` (every output value is onnxruntime's, bit for bit),
      ``output_values``, ``differing_outputs``, ``largest_output_difference``, ``same_class``
      (samples, or null without classes) and ``first_divergence``: null, or ``node``, ``op``,
      ``mismatches`` and ``reason`` of the first layer whose accumulated codes differ.
    - ``oracle``: ``difference`` between the outputs of the session that shows its codes and of the
      file as it is (must be 0; 1e-5 of the largest value is taken for rounding of float nodes),
      ``default_difference`` between the oracle and onnxruntime's default session (null where they
      are the same; otherwise the oracle uses int8 kernels), ``default_in_floats``.
    - ``float_islands``, ``not_compared``: node -> reason; ``integer_mac_percent`` (or null).
    - ``layers``, in graph order: ``node``, ``op``, ``passed``, ``tolerance`` (codes; null: any),
      ``float_in_onnxruntime`` (then being within the tolerance of the exact value is enough),
      ``judged_by_exact_value`` (that was needed: onnxruntime is further off it),
      ``must_be_exact`` (no mismatch may be unexplained: so where onnxruntime computes in floats),
      ``remark``, ``accumulator_bound`` (or null), and counts ``isolated`` (equal inputs),
      ``accumulated`` (from the network's input), ``float_reference`` (isolated; the op in float64).
    - A count: ``codes``, ``mismatches``, ``largest`` (in codes), ``saturated`` (onnxruntime's code
      is at an end of the code range), ``saturated_mismatches``, ``unsaturated``,
      ``unsaturated_mismatches``; and but for ``accumulated`` ``ties`` (codes whose exact value lies
      exactly on a half before rounding), ``tie_mismatches`` (mismatches among them),
      ``near_tie_mismatches`` (mismatches within 2^-12 of a half, 2^-6 for 16-bit codes, ties
      included), ``exact_mismatches`` (mismatches where onnxruntime's code is not the exact value's,
      and the other is), ``unexplained`` (mismatches that are neither) and ``largest_from_exact``
      (of a mismatch, in codes).
    - ``hardware``, with ``--hardware``: see ``hardware_facts``.
    """
    divergence = found.first_divergence
    return {
        "passed": found.passed,
        "arithmetic": found.arithmetic,
        "samples": found.samples,
        "first_failure": None if found.first_failure is None else found.first_failure.node,
        "end_to_end": {
            "identical": found.differing_outputs == 0,
            "output_values": found.output_values,
            "differing_outputs": found.differing_outputs,
            "largest_output_difference": found.largest_output_difference,
            "same_class": found.same_class,
            "first_divergence": None
            if divergence is None
            else {
                "node": divergence.node,
                "op": divergence.op_type,
                "mismatches": divergence.mismatches,
                "reason": divergence.reason,
            },
        },
        "oracle": {
            "difference": found.oracle_difference,
            "default_difference": found.default_difference,
            "default_in_floats": list(found.default_in_floats),
        },
        "float_islands": dict(found.float_islands),
        "not_compared": dict(found.not_compared),
        "integer_mac_percent": found.integer_mac_percent,
        "layers": [
            {
                "node": layer.node,
                "op": layer.op_type,
                "passed": layer.passed,
                "tolerance": layer.tolerance,
                "float_in_onnxruntime": layer.is_float_in_onnxruntime,
                "judged_by_exact_value": layer.is_judged_by_exact_value,
                "must_be_exact": layer.must_be_exact,
                "remark": layer.remark,
                "accumulator_bound": layer.accumulator_bound,
                "isolated": _counts(layer.isolated, with_ties=True),
                "accumulated": _counts(layer.accumulated, with_ties=False),
                "float_reference": _counts(layer.float_reference, with_ties=True),
            }
            for layer in found.layers
        ],
        **({"hardware": hardware_facts(found.hardware)} if found.hardware else {}),
    }


def _counts(difference: CodeDifference, *, with_ties: bool) -> dict[str, int]:
    counts = {
        "codes": difference.total,
        "mismatches": difference.mismatches,
        "largest": difference.largest,
        "saturated": difference.saturated,
        "saturated_mismatches": difference.saturated_mismatches,
        "unsaturated": difference.unsaturated,
        "unsaturated_mismatches": difference.unsaturated_mismatches,
    }
    if with_ties:
        counts["ties"] = difference.ties
        counts["tie_mismatches"] = difference.tie_mismatches
        counts["near_tie_mismatches"] = difference.near_tie_mismatches
        counts["exact_mismatches"] = difference.exact_mismatches
        counts["unexplained"] = difference.unexplained
        counts["largest_from_exact"] = difference.largest_from_exact
    return counts
