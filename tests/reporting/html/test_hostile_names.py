"""What names can do to the page: nothing."""

from pathlib import Path

from playwright.sync_api import expect

from quantkit.reporting.html.report_page import report_page
from quantkit.reporting.report import Cause, ClassFlip, Remedy
from tests.reporting.example_report import example_report
from tests.reporting.html.visit import TABLE, Visits, drawn_plots

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\"' & \u2028"
)


def test_hostile_names_stay_names(tmp_path: Path, visits: Visits) -> None:
    report = example_report(14)
    hostile = report.model_copy(
        update={
            "quantized_model": HOSTILE,
            "float_model": HOSTILE,
            "class_names": (HOSTILE,) * 3,
            "metric": HOSTILE,
            "engines": tuple(
                row.model_copy(update={"label": row.label if index < 2 else HOSTILE})
                for index, row in enumerate(report.engines)
            ),
            "layers": tuple(
                layer.model_copy(update={"node": f"{index}{HOSTILE}", "value": HOSTILE})
                for index, layer in enumerate(report.layers)
            ),
            "causes": (
                Cause(
                    node=f"3{HOSTILE}",
                    cause=HOSTILE,
                    evidence=HOSTILE,
                    remedy=Remedy(text=HOSTILE),
                    noise_percent=50.0,
                ),
            ),
            "changed": tuple(
                sample.model_copy(update={"sample": HOSTILE}) for sample in report.changed
            ),
            "flips": (ClassFlip(float_class=0, int8_class=1, count=6),),
            "provenance": {HOSTILE: HOSTILE},
        }
    )
    path = tmp_path / "hostile.html"
    path.write_text(report_page(hostile), encoding="utf-8")
    page = visits.open(path)
    page.locator("#causes a[data-opens]").click()
    expect(page.locator(f"{TABLE} tr.detail.open")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0
    assert drawn_plots(page) == 13
    shown = page.locator(f"{TABLE} tr.open .opener").text_content()
    assert shown is not None
    assert shown.strip() == f"3{HOSTILE}".strip()
