"""A float network that is no better than chance: its inputs or its labels are wrong."""

from collections.abc import Iterator

from quantkit.numerics.paired import chance_of_at_least
from quantkit.reporting.causes.findings import Findings
from quantkit.reporting.report import Cause, Remedy

# With fewer samples even a good network may look like chance.
_FEWEST_GUESSES = 20
_SURELY_BETTER = 0.01


def guessing(findings: Findings) -> Iterator[Cause]:
    """One cause for the whole network, or none."""
    labels, right = findings.labels, findings.float_right
    if labels is None or right is None or not labels.size:
        return
    classes = int(labels.max()) + 1
    if classes < 2 or right.size < _FEWEST_GUESSES:
        return
    if chance_of_at_least(int(right.sum()), right.size, 1 / classes) < _SURELY_BETTER:
        return
    yield Cause(
        node="",
        cause="the float network is no better than guessing",
        evidence=f"{int(right.sum())} of {right.size} samples are right, of {classes} classes",
        remedy=Remedy(
            text="another --preset or --channel-order, and check that --labels fit the model"
        ),
    )
