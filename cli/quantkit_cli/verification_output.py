"""How ``quantkit verify`` tells what it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantkit_cli.console import print_table

if TYPE_CHECKING:
    from quantkit.evaluation.verification import CodeDifference, LayerVerification, Verification


_SHOWN = 5
_FOLD = "--fold-batch-norm"
_BEHIND = f"BatchNormalization reads it ({_FOLD})"


def print_verification(model: Path, found: Verification) -> None:
    """Print the verdict, where the networks part, a row per layer, and what the notes mean."""
    from quantkit.reporting.terminal_table import kept_float_lines, print_sentence

    print_sentence(_verdict(found))
    for line in _not_judged(found):
        print_sentence(line)
    for line in _end_to_end(found):
        print_sentence(line)
    print_sentence(
        f"{model}: integer session ({found.arithmetic} arithmetic), onnxruntime (fully optimized) "
        f"and the ops in floats, {_count(found.samples, 'sample')}"
    )
    print(
        "\nCodes that differ from onnxruntime's (largest difference, if more than 1):\n"
        "alone = given its inputs; so far = from the network's input; float = the op in\n"
        "floats, alone. Ties: exactly on a half before rounding, where arithmetics may\n"
        "differ; near one: within 1/4096 of it, 1/64 for 16-bit codes.\n"
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
    for line in (*_differences(found), *_notes(found)):
        print_sentence(line)
    islands = {
        name: _BEHIND if _FOLD in reason else reason for name, reason in found.float_islands.items()
    }
    for line in (*kept_float_lines(islands), *_shortened(_not_compared(found))):
        print_sentence(line)
    if found.float_islands and not found.oracle_difference:
        print_sentence(
            "making the codes visible did not change onnxruntime's outputs (within 1e-5; float "
            "nodes)"
        )
    if found.default_difference is not None:
        _print_default(found)


def _verdict(found: Verification) -> str:
    """The first line: of the judged layers alone."""
    if found.passed and not found.judged:
        return "NOT JUDGED: no layer's codes can be compared with onnxruntime's"
    total = sum(layer.isolated.total for layer in found.judged)
    wrong = sum(layer.isolated.mismatches for layer in found.judged)
    text = (
        f"{'PASS' if found.passed else 'FAIL'}: {wrong:,} of {total:,} codes of "
        f"{_count(len(found.judged), 'layer')} differ given equal inputs"
    )
    if not found.passed or not wrong:
        return text
    if any(layer.is_judged_by_exact_value for layer in found.judged):
        return f"{text}, each within the 1 allowed of onnxruntime's or of the exact value"
    return f"{text}, each by at most the 1 allowed"


def _not_judged(found: Verification) -> Iterator[str]:
    """What the verdict does not speak of; nothing where every node is judged."""
    shown = [layer for layer in found.layers if layer.tolerance is None]
    layers = len(found.layers) + len(found.not_compared)
    if len(found.judged) < layers or found.float_islands:
        text = f"judged: {len(found.judged)} of {_count(layers, 'integer layer')}"
        if found.float_islands:
            kept = len(found.float_islands)
            text += f"; {_count(kept, 'node')} {'stays' if kept == 1 else 'stay'} float"
            yield text + _share(found.integer_mac_percent)
        else:
            yield text
    behind = sum(_FOLD in reason for reason in found.float_islands.values())
    if behind:
        yield f"BatchNormalization keeps {behind} of these float: fold it with {_FOLD}"
    if shown:
        codes = sum(layer.isolated.total for layer in shown)
        wrong = sum(layer.isolated.mismatches for layer in shown)
        yield (
            f"shown, not judged: {wrong:,} of {codes:,} codes of {_count(len(shown), 'layer')} "
            "differ (see the notes)"
        )


def _share(percent: float | None) -> str:
    from quantkit.reporting.terminal_table import percent_text

    if percent is None:
        return ""
    return f" ({percent_text(percent)} % of multiply-accumulates in integers)"


def _end_to_end(found: Verification) -> Iterator[str]:
    classes = ""
    if found.same_class is not None:
        samples = _count(found.samples, "sample")
        classes = f"; same class on {found.same_class} of {samples}"
    if found.differing_outputs:
        yield (
            f"end to end: {found.differing_outputs:,} of {found.output_values:,} output values "
            f"differ, by up to {found.largest_output_difference:.6g}{classes}"
        )
    else:
        yield f"end to end: outputs bit for bit onnxruntime's{classes}"
    first = found.first_divergence
    if first is not None:
        told = first.reason.endswith(f"{first.mismatches:,} of its codes differ given equal inputs")
        codes = "" if told or not first.mismatches else f", {_count(first.mismatches, 'code')}"
        yield f"first to differ so far: {first.node!r} ({first.op_type}{codes}): {first.reason}"


def _differences(found: Verification) -> Iterator[str]:
    """How the differing codes lie: of the worst layers, or (fixed_point: nearly all) in total."""
    layers = [layer for layer in found.layers if layer.isolated.mismatches]
    if found.arithmetic == "fixed_point":
        judged = [layer for layer in found.judged if layer.isolated.mismatches]
        if judged:
            yield (
                f"{_count(len(judged), 'layer')}: {_explained([one.isolated for one in judged])}; "
                "allowed: a difference of 1"
            )
        layers = [layer for layer in layers if not layer.passed]
    layers.sort(key=lambda layer: (layer.passed, -layer.isolated.mismatches))
    yield from _shortened(
        [
            f"{layer.node}: {_explained([layer.isolated])}; allowed: {allowed(layer.tolerance)}"
            + (" from the exact value" if layer.is_judged_by_exact_value else "")
            for layer in layers
        ]
    )


def _explained(differences: Sequence[CodeDifference]) -> str:
    return (
        f"of {_count(sum(one.mismatches for one in differences), 'differing code')} "
        f"{sum(one.tie_mismatches for one in differences):,} on a half, "
        f"{sum(one.near_tie_mismatches for one in differences):,} near one, "
        f"{sum(one.exact_mismatches for one in differences):,} exactly rounded here"
    )


def _notes(found: Verification) -> Iterator[str]:
    remarks: dict[tuple[str, str], LayerVerification] = {}
    for layer in found.layers:
        if layer.remark:
            remarks.setdefault((_kind(layer), layer.remark), layer)
    lines = []
    for (kind, remark), layer in remarks.items():
        limit = allowed(layer.tolerance)
        if layer.is_judged_by_exact_value:
            remark += ", further off the exact value than the integers are"
            limit += " from the exact value"
        elif layer.must_be_exact:
            limit += ", of codes that lie near a half or are exact here"
        lines.append(f"note {kind}: {remark} (allowed: {limit})")
    return _shortened(lines)


def _not_compared(found: Verification) -> Sequence[str]:
    return [f"not compared: {name}: {reason}" for name, reason in found.not_compared.items()]


def _shortened(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"and {len(lines) - _SHOWN} more like these; --json has all"


def _print_default(found: Verification) -> None:
    from quantkit.reporting.terminal_table import print_sentence

    print_sentence(
        "int8 activations: compared with onnxruntime's int8 kernels (session.qdqisint8allowed)"
    )
    if not found.default_difference:
        print("onnxruntime's default session gives the same outputs")
        return
    floats = ", ".join(found.default_in_floats)
    how = f"it computes in floats: {floats}" if floats else "it runs its uint8 kernels"
    print_sentence(
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
    largest = f" ({difference.largest})" if difference.largest > 1 else ""
    return f"{difference.mismatches:,}{largest}"
