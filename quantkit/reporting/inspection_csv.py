"""The layers of an inspection as CSV: exact numbers, a row per layer, nothing rounded."""

import csv
import io

from quantkit.reporting.inspection import InspectedLayer, Inspection
from quantkit.reporting.inspection_sections import shape_text


def inspection_csv(found: Inspection) -> str:
    """One line per layer; empty where a number is not known.

    Args:
        found: The facts.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(InspectedLayer.model_fields)
    writer.writerow(names)
    for layer in found.layers:
        values = {**dict(layer), "output_shape": shape_text(layer.output_shape)}
        writer.writerow("" if values[name] is None else values[name] for name in names)
    return text.getvalue()
