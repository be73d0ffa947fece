"""A report as JUnit's XML, which job servers show as tests: one per limit."""

import re
import xml.etree.ElementTree as ElementTree

from quantkit.reporting.gate import Limits, Verdict, verdicts
from quantkit.reporting.report import Report
from quantkit.reporting.sections import sections, title

_SUITE = "quantkit report"
_FAILURE, _ERROR = ("failure", "AccuracyError"), ("error", "ConfigError")
# Outside of what XML 1.0 can hold, even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: Report, limits: Limits) -> str:
    """A test suite, of the schema that Jenkins publishes.

    Args:
        report: What was measured; its headline and causes are the suite's output.
        limits: Each is a test: a failure where the limit is missed, an error where it could not be
            judged. Without any there is one test, ``report``, which passes.
    """
    judged = verdicts(report, limits)
    counts = {
        "name": _SUITE,
        "tests": str(len(judged) or 1),
        "failures": str(sum(verdict.is_met is False for verdict in judged)),
        "errors": str(sum(verdict.is_met is None for verdict in judged)),
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {**counts, "skipped": "0"})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in {"model": title(report), **report.provenance}.items():
        ElementTree.SubElement(properties, "property", name=_legal(name), value=_legal(value))
    for verdict in judged:
        _add_case(suite, verdict)
    if not judged:
        _case(suite, "report")
    ElementTree.SubElement(suite, "system-out").text = _legal(_told(report))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname="quantkit.report", name=name)


def _add_case(suite: ElementTree.Element, verdict: Verdict) -> None:
    case = _case(suite, verdict.limit)
    text = _legal(verdict.text)
    if not verdict.is_met:
        tag, kind = _ERROR if verdict.is_met is None else _FAILURE
        ElementTree.SubElement(case, tag, message=text, type=kind).text = text
    ElementTree.SubElement(case, "system-out").text = text


def _told(report: Report) -> str:
    """Headline and causes, a line each."""
    lines: list[str] = []
    for section in sections(report):
        if section.name in ("summary", "causes"):
            lines.extend(section.sentences)
            if section.table is not None:
                lines.append(section.title)
                lines.extend("; ".join(row) for row in section.table.rows)
    return "\n".join(lines)


def _legal(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
