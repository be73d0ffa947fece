"""Pictures that are not fed as the network was trained, or not as it was calibrated.

Named where the file says that other pictures were calibrated on, where another order of the colours
or another preset makes the float network answer far better, and where its first layer says so.
"""

import dataclasses
from collections.abc import Iterator

from quantkit.calibration.preprocessing import Preprocessing
from quantkit.errors import ModelError
from quantkit.evaluation.preprocessing_check import better_preprocessing
from quantkit.evaluation.samples import stored_preprocessing
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.report import Cause, Remedy

# How a picture is cut and resized changes little, and is often meant.
_FIELDS = ("mean", "std", "channel_order")
_OPTIONS = {"mean": "--mean", "std": "--std", "channel_order": "--channel-order"}


def preprocessing_mismatch(findings: Findings) -> Iterator[Cause]:
    """At most one cause for the whole network."""
    if findings.dataset is None:
        return
    now, then = findings.dataset.preprocessing, _stored(findings)
    differing = _differing(now, then)
    better = better_preprocessing(
        findings.reference, findings.dataset, findings.labels, findings.statistics, then
    )
    if better is None and not differing:
        return
    if better is None:
        assert now is not None
        assert then is not None
        # These pictures suit the network: those that it was calibrated on were others.
        changes = {name: getattr(now, name) for name in differing}
        evidence = f"calibrated with {_text(then, differing)}, fed with {_text(now, differing)}"
        yield _cause(evidence, changes, [*map(_typed, changes.items())])
        return
    evidence = better.evidence
    if differing and then is not None and now is not None:
        evidence += f" (calibrated with {_text(then, differing)}, fed with {_text(now, differing)})"
    yield _cause(evidence, better.changes, [better.option])


def _cause(evidence: str, changes: dict[str, str | tuple[float, ...]], options: list[str]) -> Cause:
    return Cause(
        node="",
        cause="preprocessing mismatch",
        evidence=evidence,
        remedy=Remedy(
            text=f"calibrate and run with {' '.join(options)}",
            preprocessing=changes,
            recalibrate=True,
        ),
    )


def _stored(findings: Findings) -> Preprocessing | None:
    try:
        return stored_preprocessing(findings.model)
    except ModelError:
        return None


def _differing(now: Preprocessing | None, then: Preprocessing | None) -> list[str]:
    if now is None or then is None:
        return []
    return [name for name in _FIELDS if getattr(now, name) != getattr(then, name)]


def _typed(change: tuple[str, str | tuple[float, ...]]) -> str:
    name, value = change
    text = value if isinstance(value, str) else ",".join(f"{number:g}" for number in value)
    return f"{_OPTIONS[name]} {text}"


def _text(how: Preprocessing, fields: list[str]) -> str:
    values = dataclasses.asdict(how)
    return ", ".join(_typed((name, values[name])).removeprefix("--") for name in fields)
