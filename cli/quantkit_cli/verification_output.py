"""How ``quantkit verify`` tells what it found, to people and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantkit_cli.console import print_table
from quantkit_cli.hardware_output import hardware_facts

if TYPE_CHECKING:
    from quantkit.evaluation.verification import CodeDifference, LayerVerification, Verification


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
    - ``float_islands``, ``not_compared``: node -> reason.
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


def print_verification(model: Path, found: Verification) -> None:
    """Print the verdict, where the networks part, a row per layer, and what the notes mean."""
    from quantkit.reporting.terminal_table import kept_float_lines

    total = sum(layer.isolated.total for layer in found.layers)
    wrong = sum(layer.isolated.mismatches for layer in found.layers)
    print(
        f"{'PASS' if found.passed else 'FAIL'}: {wrong:,} of {total:,} codes of "
        f"{_count(len(found.layers), 'layer')} differ given equal inputs"
    )
    _print_end_to_end(found)
    print(
        f"{model}: integer session ({found.arithmetic} arithmetic),\n"
        f"onnxruntime (fully optimized) and the ops in floats, {_count(found.samples, 'sample')}\n"
        "\nCodes that differ from onnxruntime's (largest difference): alone = given its\n"
        "inputs; so far = from the network's input; float = the op in floats, alone.\n"
        "Ties: exactly on a half before rounding, where arithmetics may differ; near one:\n"
        "within 1/4096 of it, 1/64 for 16-bit codes.\n"
    )
    numbers = ("codes", "alone", "so far", "float", "ties")
    print_table(
        ("layer", "op", *numbers, "note"),
        [
            (
                layer.node,
                layer.op_type,
                f"{layer.isolated.total:,}",
                _mismatches(layer.isolated),
                _mismatches(layer.accumulated),
                _mismatches(layer.float_reference),
                f"{layer.isolated.ties:,}",
                _note(layer),
            )
            for layer in found.layers
        ],
        right=numbers,
        name="layer",
    )
    _print_differences(found)
    for line in kept_float_lines(found.float_islands):
        print(line)
    for name, reason in found.not_compared.items():
        print(f"not compared: {name}: {reason}")
    if found.float_islands and not found.oracle_difference:
        print("outputs while codes are shown: as of the file as it is, within 1e-5 (float nodes)")
    if found.default_difference is not None:
        _print_default(found)


def _print_end_to_end(found: Verification) -> None:
    classes = ""
    if found.same_class is not None:
        samples = _count(found.samples, "sample")
        classes = f"; same class on {found.same_class} of {samples}"
    if found.differing_outputs:
        print(
            f"end to end: {found.differing_outputs:,} of {found.output_values:,} output values "
            f"differ, by up to {found.largest_output_difference:.6g}{classes}"
        )
    else:
        print(f"end to end: the outputs are onnxruntime's, bit for bit{classes}")
    first = found.first_divergence
    if first is not None:
        codes = f", {_count(first.mismatches, 'code')}" if first.mismatches else ""
        print(f"first to differ so far: {first.node!r} ({first.op_type}{codes}): {first.reason}")


def _print_differences(found: Verification) -> None:
    """How the differing codes of a layer lie, and what the notes mean."""
    for layer in found.layers:
        alone = layer.isolated
        if alone.mismatches:
            print(
                f"{layer.node}: of {_count(alone.mismatches, 'differing code')} "
                f"{alone.tie_mismatches:,} on a half, {alone.near_tie_mismatches:,} near "
                f"one, {alone.exact_mismatches:,} exactly rounded here; "
                f"allowed: {allowed(layer.tolerance)}"
                + (" from the exact value" if layer.is_judged_by_exact_value else "")
            )
    remarks: dict[tuple[str, str], LayerVerification] = {}
    for layer in found.layers:
        if layer.remark:
            remarks.setdefault((_kind(layer), layer.remark), layer)
    for (kind, remark), layer in remarks.items():
        limit = allowed(layer.tolerance)
        if layer.is_judged_by_exact_value:
            remark += ", further off the exact value than the integers are"
            limit += " from the exact value"
        print(f"note {kind}: {remark} (allowed: {limit})")


def _print_default(found: Verification) -> None:
    print("int8 activations: compared with onnxruntime's int8 kernels (session.qdqisint8allowed)")
    if not found.default_difference:
        print("onnxruntime's default session gives the same outputs")
        return
    floats = ", ".join(found.default_in_floats)
    how = f"it computes in floats: {floats}" if floats else "it runs its uint8 kernels"
    print(
        "onnxruntime's default session gives other outputs, by up to "
        f"{found.default_difference:.6g}: {how}"
    )


def _note(layer: LayerVerification) -> str:
    if not layer.passed:
        return "FAIL"
    return _kind(layer)


def _kind(layer: LayerVerification) -> str:
    if layer.tolerance is None:
        return "shown"
    if layer.is_float_in_onnxruntime:
        return "lossy float" if layer.is_judged_by_exact_value else "float"
    return "by itself" if layer.remark else ""


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def allowed(tolerance: int | None) -> str:
    """A tolerance in words."""
    if tolerance is None:
        return "any difference"
    return "none" if tolerance == 0 else f"a difference of {tolerance}"


def _mismatches(difference: CodeDifference) -> str:
    if not difference.total:
        return "-"
    if not difference.mismatches:
        return "0"
    return f"{difference.mismatches:,} ({difference.largest})"
