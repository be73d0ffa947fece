"""Named causes of lost accuracy: one file each, a function ``Findings -> Iterator[Cause]``.

To add a cause: a module here with such a function, entered in ``diagnose.CAUSES``, and a network
with the defect planted in ``tests/reporting/causes``. A cause is named only on evidence that a
healthy network does not show: no cause is better than a guess.
"""
