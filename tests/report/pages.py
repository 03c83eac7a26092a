"""Pages as a reader finds them, by Python's own parser: whether they are whole, and their tables and pictures."""

import base64
import re
from html.parser import HTMLParser

_EMPTY = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """A page that was read. Fails where a tag is not closed in turn or something outside the page is asked for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        """Rows of cells of every table, header first."""
        self.headings: list[str] = []
        self.pictures: list[str] = []
        """Each drawing, as SVG."""
        self.text = ""
        self._open: list[str] = []
        assert text.startswith("<!DOCTYPE html>")
        assert "@import" not in text
        assert not re.search(r"url\(", text)
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe", "object", "embed"}
        for name, value in attributes:
            assert not name.startswith("on")
            if name in {"src", "href", "srcset", "data", "poster"}:
                kind, _, drawing = value.partition(",")
                assert kind == "data:image/svg+xml;base64"
                self.pictures.append(base64.b64decode(drawing).decode())
        if tag not in _EMPTY:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"th", "td"}:
            self.tables[-1][-1].append("")
        elif tag in {"h1", "h2", "h3"}:
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        within = self._open[-1] if self._open else ""
        if within == "style":
            return
        self.text += data
        if {"th", "td"} & set(self._open):
            self.tables[-1][-1][-1] += data
        elif within in {"h1", "h2", "h3"}:
            self.headings[-1] += data

    def table(self, *header: str) -> list[list[str]]:
        """The rows of the only table whose header begins so."""
        (found,) = [each for each in self.tables if each and tuple(each[0][: len(header)]) == header]
        return found[1:]
