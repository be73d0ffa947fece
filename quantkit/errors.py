"""Every error that quantkit raises on purpose.

The tree::

    QuantkitError
    ├── ModelError                 a model that cannot be read or used
    │   ├── UnsupportedModelError  well-formed, but outside what quantkit does
    │   └── UnsupportedOpError     a node whose op (or attributes) has no implementation
    ├── CalibrationError           data or a calibration file that cannot be used
    │   ├── EmptyDatasetError      no sample found
    │   ├── UnreadableSampleError  a sample that cannot be decoded
    │   ├── NonFiniteRangeError    NaN or infinity in data, weights or activations
    │   └── TableMismatchError     a calibration file of another model
    ├── ConfigError                options that contradict each other or have no meaning
    │   └── UnknownNameError       a name that is in no registry
    ├── ShapeMismatchError         arrays whose shapes or dtypes do not fit
    └── AccuracyError              a limit asked for was missed (exit code 1)

A message names the node or tensor, what was got against what was expected, and the next thing to
do. The command line prints the message and exits with 2 (``AccuracyError``: 1).

Example:
    >>> from quantkit.errors import QuantkitError, EmptyDatasetError
    >>> try:
    ...     raise EmptyDatasetError("no pictures in 'empty/'; give a folder of pictures")
    ... except QuantkitError as error:
    ...     print(error)
    no pictures in 'empty/'; give a folder of pictures
"""


class QuantkitError(Exception):
    """Base class: catch this to catch everything quantkit raises on purpose."""


class ModelError(QuantkitError):
    """A model file or graph that cannot be read or used."""


class UnsupportedModelError(ModelError):
    """A well-formed model outside what quantkit does (already quantized, opset too old ...)."""


class UnsupportedOpError(ModelError):
    """A node whose op or attributes have no implementation where one is needed."""


class CalibrationError(QuantkitError):
    """Calibration data or a calibration file that cannot be used."""


class EmptyDatasetError(CalibrationError):
    """The data source holds no sample."""


class UnreadableSampleError(CalibrationError):
    """A sample that cannot be decoded, or does not fit the model's input."""


class NonFiniteRangeError(CalibrationError):
    """NaN or infinity where a finite number is needed."""


class TableMismatchError(CalibrationError):
    """A calibration file that was made for another model, or by an incompatible version."""


class ConfigError(QuantkitError):
    """Options that contradict each other or have no meaning."""


class UnknownNameError(ConfigError):
    """A name that is in no registry."""


class ShapeMismatchError(QuantkitError):
    """Arrays whose shapes or dtypes do not fit each other."""


class AccuracyError(QuantkitError):
    """A limit asked for (drop, SQNR, agreement) was missed."""
