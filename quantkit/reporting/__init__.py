"""What was lost, in which layer, why, and what to try.

- ``compare``: every layer of a quantized model against the float network, isolated and accumulated.
- ``diagnose``: named causes with their evidence and the option to try.
- ``report``: :class:`Report`, plain data that round-trips through JSON, and ``make_report``.
- ``render_terminal``: a report as tables for people.
- ``terminal_table``: one table, in a pipe or on a terminal of any width.
"""
