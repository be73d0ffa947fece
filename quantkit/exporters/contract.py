"""What an exporter promises, and the registry of exporters."""

from collections.abc import Callable
from pathlib import Path

from quantkit.quantized_model.model import QuantizedModel
from quantkit.registry import Registry

Exporter = Callable[[QuantizedModel, Path], None]
"""Writes the model beside ``path``, then renames; raises ModelError where it cannot."""

EXPORTERS: Registry[Exporter] = Registry("export format", "quantkit.exporters")
