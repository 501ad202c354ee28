"""Reads a report as a browser would, as far as the tests need."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input"}


@dataclass
class Page(HTMLParser):
    """The rows of a page's tables, its headings, the descriptions of its plots, its text and whatever it refers to."""

    html: str
    rows: list[list[str]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    text: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the page; elements must be closed in order."""
        super().__init__()
        self.feed(self.html)
        self.close()
        assert not self._open, self._open
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's attributes."""
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag == "svg":
            assert given["role"] == "img"
            self.descriptions.append(given["aria-label"] or "")
        for name, value in given.items():
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that the element closed is the one opened last."""
        assert self._open.pop() == tag, (tag, self._open)

    def handle_data(self, data: str) -> None:
        """Note text, outside styles."""
        if "style" in self._open:
            return
        self.text += data
        if self.rows and self._open[-1:] and {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data.strip()
        if {"h1", "h2", "h3"} & set(self._open):
            self.headings[-1] += data
