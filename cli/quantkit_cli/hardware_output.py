"""What a network asks of the hardware: the second table of ``quantkit verify --hardware``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quantkit_cli.console import print_table

if TYPE_CHECKING:
    from quantkit.evaluation.hardware import LayerVerdict


def hardware_facts(verdicts: Sequence[LayerVerdict]) -> dict[str, Any]:
    """What ``--json`` prints under ``hardware``.

    - ``peak_bytes``: of all activations alive at once, one sample (null: a size is open), and
      ``peak_node``; ``advice``: options for ``quantkit quantize`` and ``export``.
    - ``layers``, every node in graph order: ``node``, ``op``, ``is_integer``,
      ``accumulator_bound``, ``accumulator_bits`` (proved for any input), ``observed_accumulator``,
      ``observed_bits`` (on the samples), ``vpmaddubsw`` (x86 without VNNI; null where it plays no
      part: ``weight_pairs``, ``can_saturate`` of them, ``observed_sums``, ``observed_saturated``),
      ``mantissa`` and ``shift`` (smallest and largest over the channels, or null), ``codes``
      (``total``, ``low``, ``high``, ``clamped``), ``live_bytes``.
    """
    peak = _peak(verdicts)
    return {
        "peak_bytes": None if peak is None else peak.live_bytes,
        "peak_node": None if peak is None else peak.node,
        "advice": [verdict.advice for verdict in verdicts if verdict.advice],
        "layers": [
            {
                "node": verdict.node,
                "op": verdict.op_type,
                "is_integer": verdict.is_integer,
                "accumulator_bound": verdict.accumulator_bound,
                "accumulator_bits": verdict.accumulator_bits,
                "observed_accumulator": verdict.observed_accumulator,
                "observed_bits": verdict.observed_bits,
                "vpmaddubsw": None
                if (pairs := verdict.vpmaddubsw_pairs) is None
                else {
                    "weight_pairs": pairs.weight_pairs,
                    "can_saturate": pairs.can_saturate,
                    "observed_sums": pairs.observed_sums,
                    "observed_saturated": pairs.observed_saturated,
                },
                "mantissa": verdict.mantissa,
                "shift": verdict.shift,
                "codes": {
                    "total": verdict.codes.total,
                    "low": verdict.codes.low,
                    "high": verdict.codes.high,
                    "clamped": verdict.codes.clamped,
                },
                "live_bytes": verdict.live_bytes,
            }
            for verdict in verdicts
        ],
    }


def print_hardware(verdicts: Sequence[LayerVerdict]) -> None:
    """Print a row per integer node, the peak of memory, and the advice."""
    from quantkit.reporting.terminal_table import size_text

    print(
        "\nHardware. Bits: of the accumulator, proved / on the samples. Pairs: of products\n"
        "that x86 without VNNI saturates to 16 bits. Shift: of the fixed-point multiplier,\n"
        "over the channels. Saturated: output codes cut off at an end of their range.\n"
    )
    numbers = ("bits", "pairs %", "shift", "saturated %", "alive")
    print_table(
        ("layer", "op", *numbers),
        [
            (
                verdict.node,
                verdict.op_type,
                _bits(verdict),
                _pairs(verdict),
                "-" if verdict.shift is None else "..".join(map(str, sorted(set(verdict.shift)))),
                _share(verdict.codes.saturated_share),
                "-" if verdict.live_bytes is None else size_text(verdict.live_bytes),
            )
            for verdict in verdicts
            if verdict.is_integer
        ],
        right=numbers,
        name="layer",
    )
    peak = _peak(verdicts)
    if peak is not None and peak.live_bytes is not None:
        print(f"peak of activations: {size_text(peak.live_bytes)}, while {peak.node!r} runs")
    advice = [verdict.advice for verdict in verdicts if verdict.advice]
    if advice:
        print(f"x86 without VNNI gets {len(advice)} of these layers wrong; quantize with")
        print(" ".join(advice))
    else:
        print("x86 without VNNI computes the same")


def _peak(verdicts: Sequence[LayerVerdict]) -> LayerVerdict | None:
    known = [verdict for verdict in verdicts if verdict.live_bytes is not None]
    return max(known, key=lambda verdict: verdict.live_bytes or 0, default=None)


def _bits(verdict: LayerVerdict) -> str:
    if verdict.accumulator_bits is None:
        return "-"
    observed = "-" if verdict.observed_bits is None else str(verdict.observed_bits)
    return f"{verdict.accumulator_bits} / {observed}"


def _pairs(verdict: LayerVerdict) -> str:
    pairs = verdict.vpmaddubsw_pairs
    return "-" if pairs is None else _share(pairs.observed_share)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3f}"
