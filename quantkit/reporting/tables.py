"""Tables of a report's sections, with what was measured alone in them."""

from quantkit.reporting.numbers import MISSING
from quantkit.reporting.section import Column, Table


def number_column(title: str, explained: str = "") -> Column:
    """A column of numbers."""
    return Column(title, is_number=True, explained=explained)


def without_empty(table: Table) -> Table:
    """The table without the columns in which no row has anything."""
    kept = [
        index
        for index in range(len(table.columns))
        if any(row[index] != MISSING for row in table.rows)
    ]
    return Table(
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in table.rows),
        keys=table.keys,
    )
