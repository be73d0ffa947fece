"""What was lost, in which layer, why, and what to try; and what calibration found.

- ``compare``: every layer of a quantized model against the float network, isolated and accumulated.
- ``diagnose``: named causes with their evidence and the option to try.
- ``report``: :class:`Report`, plain data that round-trips through JSON, and ``make_report``.
- ``render_terminal``: a report as tables for people.
- ``table_rows``: a calibration table, tensor by tensor: ranges of every method, what they cut off.
- ``linear_histogram``: log-spaced counts on a linear axis.
- ``histogram_text``, ``histogram_plot`` (with ``axis_ticks``): histograms in characters, as a
  picture.
- ``render_calibration``: a calibration table for people.
- ``terminal_table``: one table, in a pipe or on a terminal of any width.
"""
