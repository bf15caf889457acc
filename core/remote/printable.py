"""Text from other machines, without control characters."""

from __future__ import annotations

import re

# Text from outside

SEQUENCES = re.compile(
    r"\x1b\][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC: title, links, clipboard
    r"|\x1b[PX^_][^\x1b\x9c]*(?:\x1b\\|\x9c)?"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|\x1b[ -/]*[0-~]?"  # the rest
)
"""Control sequences (ECMA-48, 5.4 and 8.3), whole: not only their first byte."""

JOINERS = frozenset({"\u200d", "\ufe0f"})
"""Inside emoji. Kept in running text; in a table they would break the columns."""


def clean(text: str, *, lines: bool = False) -> str:
    """`text` without escape sequences, control and formatting characters (bidi marks included).

    Breaks become spaces; with `lines`, line breaks and tabs stay, and so do joined emoji.
    """
    kept = JOINERS | {"\n", "\t"} if lines else frozenset()
    out: list[str] = []
    for char in SEQUENCES.sub("", text).replace("\r\n", "\n"):
        if (char.isprintable() and char not in JOINERS) or char in kept:
            out.append(char)
        elif char.isspace():
            out.append("\n" if lines and char in "\r\x85\u2028\u2029" else " ")
    return "".join(out)
