"""What a report says of samples that got another class."""

from quantkit.reporting import numbers
from quantkit.reporting.report import Report
from quantkit.reporting.section import Column, Section, Table
from quantkit.reporting.tables import number_column, without_empty

_FEW_SAMPLES, _FEW_FLIPS = 5, 5


def changed(report: Report) -> Section | None:
    """Samples that got another class."""
    if report.changed_count is None:
        return None
    share = (
        f" ({numbers.percent(100.0 * report.changed_count / report.samples)} %)"
        if report.samples
        else ""
    )
    sentence = (
        f"{numbers.count(report.changed_count)} of {numbers.counted(report.samples, 'sample')}"
        f"{share} got another class than from the float network."
    )
    if len(report.changed) < report.changed_count:
        sentence += (
            f" Here are {numbers.count(len(report.changed))}: those that were right first, then by "
            "margin."
        )
    names = report.class_names
    columns = (
        Column("sample", is_name=True),
        Column("label"),
        Column("float says"),
        Column("int8 says"),
        number_column("margin", "By how much float scored its answer above int8's answer."),
    )
    rows = tuple(
        (
            one.sample,
            numbers.class_name(one.label, names),
            numbers.class_name(one.float_class, names),
            numbers.class_name(one.int8_class, names),
            numbers.real(one.float_margin),
        )
        for one in report.changed
    )
    return Section(
        name="changed",
        title="Changed predictions",
        sentences=(sentence,),
        table=without_empty(Table(columns, rows)) if rows else None,
        few=_FEW_SAMPLES,
    )


def flips(report: Report) -> Section | None:
    """From which class to which."""
    if not report.flips:
        return None
    names = report.class_names
    return Section(
        name="flips",
        title="Changed classes",
        table=Table(
            columns=(Column("float says"), Column("int8 says"), number_column("samples")),
            rows=tuple(
                (
                    numbers.class_name(flip.float_class, names),
                    numbers.class_name(flip.int8_class, names),
                    numbers.count(flip.count),
                )
                for flip in report.flips
            ),
        ),
        few=_FEW_FLIPS,
    )
