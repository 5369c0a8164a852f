"""A table of blocks for a terminal: nothing in a cell is ever cut."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from replay_jax.report.elements.blocks import Column, Table

_BETWEEN = 3  # columns are that far apart
_ENDS = 2  # and the table has so much at its sides


def rich_table(table: Table, width: int) -> RenderableType:
    """Return a table of blocks as a rich table of at most `width` columns of characters.

    Cells break between words only. Where the longest words of all columns have no room side by
    side, columns are left out by their `drop`; a column that says the same in every row goes into
    the caption instead. Where that is not enough every cell has a line of its own.
    """
    shown, said, left_out = _fitting(table, width)
    if _needed(table, shown) > width:
        return _as_lines(table)
    words = "".join(f"{title} {value} in every row. " for title, value in said)
    words += f"No room here for: {', '.join(left_out)}. " if left_out else ""
    drawn = RichTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=table.title,
        caption=(words + table.words) or None,
        title_justify="left",
        caption_justify="left",
        header_style="bold",
    )
    for place, size in zip(shown, _widths(table, shown, width), strict=True):
        column = table.columns[place]
        justify = "right" if column.align == "right" else "left"
        drawn.add_column(column.title, justify=justify, width=size, overflow="fold")  # type: ignore[arg-type]
    for row in table.rows:
        cells = (Text(row.cells[place]) for place in shown)
        drawn.add_row(*cells, style="bold" if row.strong else None)
    return drawn


def _fitting(table: Table, width: int) -> tuple[list[int], list[tuple[str, str]], list[str]]:
    """Columns that have room, those of one value that have none, and the others that have none."""
    shown = list(range(len(table.columns)))
    said: list[tuple[str, str]] = []
    left_out: list[str] = []
    while _needed(table, shown) > width and any(table.columns[place].drop for place in shown):
        place = max(shown, key=lambda place: table.columns[place].drop)
        shown.remove(place)
        values = {row.cells[place] for row in table.rows}
        if len(values) == 1:
            said.append((table.columns[place].title, values.pop()))
        else:
            left_out.append(table.columns[place].title)
    return shown, said, left_out


def _needed(table: Table, shown: list[int]) -> int:
    """The width at which the longest words of the shown columns have room side by side."""
    least = sum(_longest_word(table, place) for place in shown)
    return least + _BETWEEN * (len(shown) - 1) + _ENDS


def _as_lines(table: Table) -> Group:
    """Every cell as "column: value" on lines of its own, an empty line between rows."""
    lines = [Text(table.title, style="italic")]
    for row in table.rows:
        lines.append(Text(""))
        lines += [
            Text(f"{column.title}: {cell}", style="bold" if row.strong else "")
            for column, cell in zip(table.columns, row.cells, strict=True)
            if cell
        ]
    return Group(*lines, Text(""), Text(table.words, style="dim italic"))


def _widths(table: Table, shown: list[int], width: int) -> list[int]:
    """Room for the longest word of every column, and what is left for those that want it.

    First so that an interval is on one line, then that its value is on the same.
    """
    sizes = [_longest_word(table, place) for place in shown]
    left = width - _ENDS - _BETWEEN * (len(shown) - 1) - sum(sizes)
    for wanted in (_longest_part, _longest_text):
        lacking = [wanted(table, place) - size for place, size in zip(shown, sizes, strict=True)]
        # Those that lack least come first, so that as many columns as can be need one line a row.
        for place in sorted(range(len(sizes)), key=lambda place: lacking[place]):
            more = max(0, min(left, lacking[place]))
            sizes[place] += more
            left -= more
    return sizes


def _longest_text(table: Table, place: int) -> int:
    return max(map(len, _texts(table, place)))


def _longest_part(table: Table, place: int) -> int:
    """The longest value or interval; of words the longest word."""
    if table.columns[place].align != "right":
        return _longest_word(table, place)
    cells = (row.cells[place] for row in table.rows)
    parts = (part for cell in cells for part in cell.replace(" (", "\n(").split("\n"))
    return max(map(len, parts), default=1)


def _longest_word(table: Table, place: int) -> int:
    words = (word for text in _texts(table, place) for word in text.split())
    return max(map(len, words), default=1)


def _texts(table: Table, place: int) -> list[str]:
    column: Column = table.columns[place]
    return [column.title, *(row.cells[place] for row in table.rows)]
