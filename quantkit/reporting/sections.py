"""A report as titled sections of sentences and tables: what every rendered form shows."""

from quantkit.reporting.accuracy_sections import cost, engines, outputs, split, summary
from quantkit.reporting.layer_sections import causes, fixes, kept_float, layers, ranges
from quantkit.reporting.prediction_sections import changed, flips
from quantkit.reporting.report import Report
from quantkit.reporting.section import Column, Section, Table


def title(report: Report) -> str:
    """What the report is about, in a line."""
    if report.float_model is None:
        return f"{report.quantized_model}, without a float model"
    return f"{report.quantized_model} against {report.float_model}"


def sections(report: Report) -> tuple[Section, ...]:
    """What there is to say, the most important first; what was not measured is left out.

    Returns:
        ``summary``, ``engines`` and ``causes`` always; ``outputs`` (where there are several),
        ``fixes``, ``split``, ``cost``, ``layers``, ``ranges``, ``changed``, ``flips``, ``float``
        and ``provenance`` where there is something in them.
    """
    made = (
        summary(report),
        engines(report),
        outputs(report),
        causes(report),
        fixes(report),
        split(report),
        cost(report),
        layers(report),
        ranges(report),
        changed(report),
        flips(report),
        kept_float(report),
        _provenance(report),
    )
    return tuple(section for section in made if section is not None)


def _provenance(report: Report) -> Section | None:
    if not report.provenance:
        return None
    return Section(
        name="provenance",
        title="Provenance",
        table=Table(
            columns=(Column("what", is_name=True), Column("value")),
            rows=tuple(report.provenance.items()),
        ),
        few=0,
    )
