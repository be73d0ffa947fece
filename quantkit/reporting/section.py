"""What every rendered form shows: titled sections of sentences and tables of text.

Forms differ in their looks alone. Numbers become text once, in ``numbers`` and ``sections``, so
that they are the same in the terminal, in Markdown and in HTML.
"""

from dataclasses import dataclass

from quantkit.errors import ShapeMismatchError


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        is_number: Aligned to the right, sorted by value.
        is_name: Holds names of layers, which a narrow terminal may shorten.
        explained: What the numbers mean, in a sentence; "" where the heading says it.
    """

    title: str
    is_number: bool = False
    is_name: bool = False
    explained: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text.

    Attributes:
        columns: What the cells of a row are.
        rows: One text per column; "-" where there is no value.
        keys: What a row is about (a layer's name), for forms that link to it; empty, or one each.

    Raises:
        ShapeMismatchError: A row has another number of cells than there are columns.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ShapeMismatchError(f"{len(self.columns)} columns, but {len(row)} cells")
        if self.keys and len(self.keys) != len(self.rows):
            raise ShapeMismatchError(f"{len(self.rows)} rows, but {len(self.keys)} keys")


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part.

    Attributes:
        name: For links: lower case, hyphens.
        title: Its heading; "" for the first, which has the report's.
        sentences: Plain text, one paragraph each, before the table.
        table: None without one.
        few: Rows that forms which show a part (terminal, Markdown) show first; None: all.
    """

    name: str
    title: str
    sentences: tuple[str, ...] = ()
    table: Table | None = None
    few: int | None = None
