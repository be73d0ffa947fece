"""What a network asks of the hardware: the second table of ``quantkit verify --hardware``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from quantkit_cli.console import print_table

if TYPE_CHECKING:
    from quantkit.evaluation.hardware import LayerVerdict
    from quantkit.evaluation.verification import Verification

_SHOWN = 5


def hardware_facts(verdicts: Sequence[LayerVerdict]) -> dict[str, Any]:
    """What ``--json`` prints under ``hardware``.

    - ``peak_bytes``: of all activations alive at once, one sample (null: a size is open), and
      ``peak_node``; ``advice``: options for ``quantkit quantize`` and ``export``, for the layers
      that saturated on the samples.
    - ``x86_without_vnni``: ``is_safe`` (proved for any input), and names: ``saturated`` (on the
      samples), ``can_saturate`` (others: some input does it, these samples did not).
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
        "x86_without_vnni": {
            "is_safe": not any(verdict.can_saturate for verdict in verdicts),
            "saturated": _saturated(verdicts),
            "can_saturate": _unseen(verdicts),
        },
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


def print_hardware(found: Verification) -> None:
    """Print a row per integer node, the peak of memory, and what to do for x86 without VNNI."""
    from quantkit.reporting.numbers import size
    from quantkit.reporting.terminal_table import print_sentence

    verdicts = found.hardware
    print(
        "\nHardware. Bits: of the accumulator, proved / on the samples. Pairs: of products\n"
        "that x86 without VNNI saturates to 16 bits, on the samples (0: proved for any\n"
        "input; can: on other inputs). Shift: of the fixed-point multiplier, over the\n"
        "channels. Cut: output codes cut off at an end of their range.\n"
    )
    numbers = ("bits", "pairs %", "shift", "cut %", "alive")
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
                size(verdict.live_bytes),
            )
            for verdict in verdicts
            if verdict.is_integer
        ],
        right=numbers,
        name="layer",
    )
    peak = _peak(verdicts)
    if peak is not None and peak.live_bytes is not None:
        print_sentence(f"peak of activations: {size(peak.live_bytes)}, while {peak.node!r} runs")
    for line in _advice(found):
        print_sentence(line)


def _advice(found: Verification) -> Iterator[str]:
    saturated, unseen = _saturated(found.hardware), _unseen(found.hardware)
    samples = f"{found.samples} sample{'' if found.samples == 1 else 's'}"
    if not saturated and not unseen:
        yield "x86 without VNNI computes the same: no pair can saturate, whatever the input"
        return
    if saturated:
        yield (
            f"x86 without VNNI gets {_layers(len(saturated))} wrong on the {samples}; quantize the "
            "float model with"
        )
        yield _options(saturated)
    if unseen:
        others = f"{'another ' if saturated else ''}{_layers(len(unseen))}"
        yield (
            f"x86 without VNNI can get {others} wrong on other inputs, though not on the "
            f"{samples} (can, above): more samples tell more; "
            "--reduce-range-node for each of them, or --reduce-range for all layers, rules it out"
        )
    if not found.is_made_by_quantkit:
        yield (
            "quantkit did not make this file: these options are of `quantkit quantize`, for the "
            "float model"
        )


def _options(names: Sequence[str]) -> str:
    options = " ".join(f"--reduce-range-node {name}" for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return options + (f" and {more} more (--json has all)" if more > 0 else "")


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _saturated(verdicts: Sequence[LayerVerdict]) -> list[str]:
    return [verdict.node for verdict in verdicts if verdict.saturates_on_samples]


def _unseen(verdicts: Sequence[LayerVerdict]) -> list[str]:
    return [
        verdict.node
        for verdict in verdicts
        if verdict.can_saturate and not verdict.saturates_on_samples
    ]


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
    if pairs is None:
        return "-"
    if verdict.can_saturate and not pairs.observed_saturated:
        return "can"
    return _share(pairs.observed_share)


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    percent = 100 * share
    if 0 < percent < 0.001:
        return "<0.001"
    return f"{percent:.3f}" if percent else "0"
