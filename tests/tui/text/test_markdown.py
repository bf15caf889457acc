"""Model cards as one reads them in a terminal."""

from __future__ import annotations

import pytest

from modeldeck.tui.text.markdown import readable

CARD = """\
---
license: apache-2.0
tags:
  - gguf
---

<!-- made by a script -->
<h1 align="center">Tiny &amp; mighty</h1>
<p align="center">
  <a href="https://example.org"><img src="logo.png" alt="the logo" width="400"></a>
  <img src="badge.svg">
</p>

[![](https://img/badge.svg)](https://example.org) ![chart](chart.png)

Use `<think>` before the answer.<br>Then stop.

```html
<!-- kept -->
<b>kept</b> &amp;
```

| a | b |
|---|---|
| 1 | 2 |

<details><summary>More</summary>
<ul><li>one</li><li><b>two</b></li></ul>
</details>
<script>alert(1)</script>
"""


def test_a_card_keeps_its_words_and_loses_the_page() -> None:
    text = readable(CARD)
    assert text.startswith("# Tiny & mighty")
    for kept in (
        "the logo",
        "chart",
        "`<think>`",
        "Then stop.",
        "| 1 | 2 |",
        "More",
        "- one",
        "- two",
    ):
        assert kept in text
    assert "```html\n<!-- kept -->\n<b>kept</b> &amp;\n```" in text
    for gone in (
        "license",
        "made by",
        "align",
        "badge",
        "alert",
        "<p",
        "<a",
        "https://example",
        "---\n\n",
    ):
        assert gone not in text
    assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ""),
        ("---\nonly: matter\n---\n", ""),
        ("---\nnever closed", "---\nnever closed"),
        ("words\n---\nmore", "words\n---\nmore"),
        ("\ufeff---\r\na: b\r\n---\r\n# Head", "# Head"),
        ("a <|im_start|> b <think> c", "a <|im_start|> b <think> c"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<p>open", "open"),
        ("```\nnever closed <b>", "```\nnever closed <b>"),
        ("<!-- never closed", ""),
        ("&lt;b&gt;", "<b>"),
        ("[red]x[/red] [@click=app.quit]y[/]", "[red]x[/red] [@click=app.quit]y[/]"),
        ("a\x1b]0;t\x07b\x1b[31mc&#27;[2Jd &#x202e;e", "abc[2Jd e"),
        ("![](x.png)", ""),
        ("![alt][ref]", "alt"),
        ("<img alt='it' src=x>", "it"),
        ("<h2>two words</h2> after", "## two words\n\n after"),
        ("<td>a</td><td>b</td>", "a  b"),
    ],
)
def test_what_becomes_of_what(text: str, read: str) -> None:
    assert readable(text) == read


@pytest.mark.parametrize(
    "text",
    ["<" * 50_000, "[" * 50_000, "`" * 50_000, "<!--" * 20_000, "![" * 50_000, "<h1>" * 20_000,
     "<img alt=" * 20_000, "---\n" * 20_000, "<script" * 20_000, "\n " * 50_000, "~~~\n" * 20_000],
)  # fmt: skip
def test_no_card_takes_long(text: str) -> None:
    """What is written to tie a parser in knots is read in the time of any other card."""
    assert isinstance(readable(text), str)
