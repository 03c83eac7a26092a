"""A page of text, tables and pictures as one HTML file: what every report of the project looks like.

A page needs no network: its style stands in it, and its pictures are drawings (SVG) inside it. It prints on A4 and
Letter. Whatever is plain text is escaped; `Markup` is HTML already.
"""

import base64
import io
import math
import numbers
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2
import matplotlib
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from matplotlib.figure import Figure

_DRAWING = {"svg.hashsalt": "dnabert-jax", "svg.fonttype": "path", "path.simplify": True}
"""The same figure gives the same bytes, and looks the same where its font is missing."""
_WIDTH = re.compile(rb'<svg[^>]* width="([0-9.]+)pt"')
_HALF = 440.0
"""Points; two drawings that are not wider share a line."""
_LONG_WORD = 24
"""A word with more letters may be broken in a table, which would not fit on paper otherwise."""
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("dnabert_jax.report", "."),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
# Neither links nor images, so that a page never asks for anything outside it.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])


class Section:
    """A heading and what stands under it.

    Args:
      title: the heading; empty for none.
      contents: `table`, `picture` and other HTML as Markup, in order; a plain string is a paragraph.
    """

    def __init__(self, title: str, *contents: str | Markup) -> None:
        self.title = title
        self.contents = [each if isinstance(each, Markup) else paragraph(each) for each in contents]


def page(title: str, sections: Sequence[Section], *, subtitle: str = "") -> str:
    """A whole HTML document.

    Args:
      title: of the page, and of the window that shows it.
      sections: in order.
      subtitle: one line under the title.
    """
    return _TEMPLATES.get_template("page.html").render(title=title, subtitle=subtitle, sections=sections)


def paragraph(text: str) -> Markup:
    """Plain text as a paragraph."""
    return Markup("<p>{}</p>").format(text)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "", digits: int = 0) -> Markup:
    """A table; its first column, and every other column of words, is flush left, and numbers are flush right.

    Args:
      header: names of the columns; an empty sequence for none.
      rows: as many cells each: text, Markup, an int, a float, or None (a dash).
      caption: above the table.
      digits: of floats, as `number` takes it.
    """
    rows = [list(row) for row in rows]
    columns = max([len(header), *map(len, rows)])
    numeric = [
        any(_is_number(row[at]) for row in rows) and all(row[at] is None or _is_number(row[at]) for row in rows)
        for at in range(columns)
    ]
    parts = []
    if header:
        names = (_cell("th", name, right) for name, right in zip(header, numeric, strict=True))
        parts.append(Markup("<thead><tr>{}</tr></thead>").format(Markup("").join(names)))
    body = Markup("\n").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                _cell("td", number(value, digits), right) for value, right in zip(row, numeric, strict=True)
            )
        )
        for row in rows
    )
    parts.append(Markup("<tbody>\n{}\n</tbody>").format(body))
    # A caption of its own kind would be no wider than the table, however narrow that is.
    above = Markup('<p class="caption">{}</p>').format(caption) if caption else ""
    return Markup('<div class="table">{}<table>\n{}\n</table></div>').format(above, Markup("\n").join(parts))


def number(value: Any, digits: int = 0) -> str | Markup:
    """A value as the tables show it.

    A float is rounded to so many significant digits; with 0 it has four decimals, or four digits where it is very small
    or large.
    """
    if value is None:
        return "–"
    if not _is_number(value):
        return value if isinstance(value, Markup) else str(value)
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if not math.isfinite(value):
        return "–"
    if digits and value == 0:
        return "0"
    if digits:
        rounded = float(f"{value:.{digits - 1}e}")
        return f"{rounded:,.{max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)}f}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def picture(figure: Figure, caption: str = "", *, alt: str = "") -> Markup:
    """A figure, as large as it was drawn unless the page is narrower; two small ones share a line.

    Args:
      figure: of matplotlib.
      caption: under the figure.
      alt: says what is to be seen to those who cannot; the caption where empty.
    """
    drawing = io.BytesIO()
    with matplotlib.rc_context(_DRAWING):
        figure.savefig(drawing, format="svg", bbox_inches="tight", metadata={"Date": None})
    width = float(_WIDTH.search(drawing.getvalue())[1])
    size = Markup(' class="half"') if width <= _HALF else ""
    source = "data:image/svg+xml;base64," + base64.b64encode(drawing.getvalue()).decode()
    under = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    shown = alt or caption or "picture"
    return Markup('<figure{}><img src="{}" alt="{}">{}</figure>').format(size, source, shown, under)


def markdown(text: str) -> Markup:
    """A text in CommonMark with tables, such as the README of a dataset. Links and images stay as they are written."""
    return Markup('<div class="quoted">{}</div>').format(Markup(_MARKDOWN.render(text)))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _cell(tag: str, content: Any, right: bool) -> Markup:
    kind = ""
    if right:
        kind = Markup(' class="number"')
    elif not isinstance(content, Markup) and any(len(word) > _LONG_WORD for word in str(content).split()):
        kind = Markup(' class="long"')
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), kind, escape(content))
