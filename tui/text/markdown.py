"""A README as one reads it in a terminal: Markdown without front matter, HTML and pictures. Pure.

Model cards are written for a web page. What only a page can show is left out, what HTML says in
words stays, and code is left as it is: `<think>` in a chat template is no tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from modeldeck.tui.text import format as fmt

_FRONT_MATTER = re.compile(
    r"\A\s*---[ \t]*\n.*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
"""YAML between two lines of dashes: what the Hub makes its tags of."""

_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})")
_TICKS = re.compile(r"(?P<ticks>`{1,3})(?!`)[^`\n]{1,300}(?P=ticks)(?!`)")
"""Code inside a line. Here and below, a limit on what may stand in between keeps the time that a
card takes in step with its length, also where it was written to take long."""

_UNSEEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<(?P<tag>script|style)\b.*?(?:</(?P=tag)[ ]?>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_TARGET = r"(?:\([^()\n]{0,1000}\)|\[[^\[\]\n]{0,200}\])"
_PICTURE = re.compile(r"!\[(?P<alt>[^\[\]\n]{0,300})\]" + _TARGET)
_EMPTY_LINK = re.compile(r"\[[ \t]{0,9}\]" + _TARGET)
_IMG = re.compile(r"<img\b[^<>]{0,2000}>", re.IGNORECASE)
_ALT = re.compile(r"\balt\s?=\s?(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_OPEN_HEADING = re.compile(r"<h(?P<level>[1-6])\b[^<>]{0,500}>\s{0,99}", re.IGNORECASE)
_CLOSED_HEADING = re.compile(r"</h[1-6]\s{0,9}>", re.IGNORECASE)
_ITEM = re.compile(r"<li\b[^<>]{0,500}>\s{0,99}", re.IGNORECASE)
_BREAK = re.compile(r"<br\b[^<>]{0,500}>", re.IGNORECASE)
_CELL = re.compile(r"</t[dh][ ]?>", re.IGNORECASE)
_BLOCK = re.compile(
    r"</?(?:p|div|center|table|thead|tbody|tr|ul|ol|li|details|summary|blockquote|section|figure"
    r"|figcaption|hr|pre|picture|header|footer|nav|dl|dt|dd)\b[^<>]{0,500}>",
    re.IGNORECASE,
)
_INLINE = re.compile(
    r"</?(?:a|b|i|u|s|em|strong|span|sup|sub|small|big|font|code|kbd|mark|q|cite|del|ins|source|td|th"
    r"|col|colgroup|caption|abbr|tt|var|samp|wbr|body|html|head|title|meta|link|label|button"
    r"|iframe|video|audio|svg|path|g|rect|circle)\b[^<>]{0,500}>",
    re.IGNORECASE,
)
_INDENT = re.compile(r"^[ \t]{1,99}(?=<)", re.MULTILINE)
"""In front of a tag; Markdown would make code of it."""
_GAPS = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def readable(text: str) -> str:
    """The card as Markdown, without what could steer a terminal."""
    text = _FRONT_MATTER.sub("", fmt.clean(text, lines=True), count=1)
    parts = (part if code else _words(part) for code, part in _blocks(text))
    # Entities may have stood for what was taken out before.
    return fmt.clean(_GAPS.sub("\n\n", "".join(parts)), lines=True).strip()


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """Pieces of the text in order: each either a block of code, or all words."""
    piece: list[str] = []
    mark = ""
    for line in text.splitlines(keepends=True):
        fence = _FENCE.match(line)
        if not mark and fence is not None:
            yield False, "".join(piece)
            piece, mark = [line], fence["mark"]
        elif mark and fence is not None and line.strip().startswith(mark):
            yield True, "".join([*piece, line])
            piece, mark = [], ""
        else:
            piece.append(line)
    yield bool(mark), "".join(piece)


def _words(text: str) -> str:
    """What stands between two blocks of code."""
    text = _UNSEEN.sub("", text)
    parts, at = [], 0
    for code in _TICKS.finditer(text):
        parts += [_plain(text[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, _plain(text[at:])])


def _plain(text: str) -> str:
    """What stands between two words of code."""
    text = _PICTURE.sub(lambda found: found["alt"].strip(), text)
    if "<" in text:
        text = _INDENT.sub("", text)
        text = _IMG.sub(_alternative, text)
        text = _OPEN_HEADING.sub(lambda found: f"\n\n{'#' * int(found['level'])} ", text)
        text = _CLOSED_HEADING.sub("\n\n", text)
        text = _BREAK.sub("\n", text)
        text = _ITEM.sub("\n- ", text)
        text = _CELL.sub("  ", text)
        text = _BLOCK.sub("\n\n", text)
        text = _INLINE.sub("", text)
    return unescape(_EMPTY_LINK.sub("", text))


def _alternative(image: re.Match[str]) -> str:
    """What is said in place of a picture."""
    found = _ALT.search(image[0])
    return (found[1] or found[2] or "").strip() if found else ""
