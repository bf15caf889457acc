"""One request in full. Pure."""

from __future__ import annotations

from rich.text import Text

from modeldeck.core.schema import RecordedText, RequestInfo
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG, bar
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import requests as request_text
from modeldeck.tui.text.format import Glyphs

LABEL = 9
"""Width in cells of the labels."""
BAR = 40
HIGH = 0.8
"""Share of the context from which on its bar is a warning."""


SHOWN = 400
"""Characters of a recorded text that are shown: the end of it."""


def facts(
    info: RequestInfo,
    text: RecordedText | None,
    record_key: str,
    own: str,
    width: int,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> list[Text]:
    """Who asks, the prompt, the answer, the context, and the text where it is recorded."""
    dot = f" {glyphs.dot} "
    address = info.origin.partition(" token=")[0]
    head = [request_text.who(info, own), address, info.program, f"request {info.id[:4]}"]
    if info.priority == "batch":
        head.insert(1, "batch")
    rows = [Text(fmt.clean(dot.join(part for part in head if part)), STRONG)]
    if info.error_code or info.why:
        words = f"failed ({info.error_code})" if info.error_code else f"waiting: {info.why}"
        rows.append(_row("state", fmt.clean(words), inks))
    rows.append(_row("prompt", _prompt(info), inks))
    if info.kind == "text":
        rows.append(_row("answer", fmt.clean(dot.join(_answer(info))), inks))
    share = request_text.context_share(info)
    if share is not None and info.context_length:
        style = inks.error if share >= 1 else inks.warning if share >= HIGH else None
        shape = bar(share, max(8, min(BAR, width - 30)), glyphs, inks, style)
        taken = (info.prompt_tokens or 0) + (info.completion_tokens or 0)
        words = f" {request_text.count(taken)} of {fmt.tokens(info.context_length)}"
        rows.append(_row("context", shape.append(words), inks))
    if text is None:
        words = f"not recorded; {record_key} records for some minutes, here and only in memory"
        return [*rows, _row("text", words, inks)]
    asked = text.messages[-1].content if text.messages else text.prompt or ""
    rows.append(_row("asked", _end(asked), inks))
    if text.thought:
        rows.append(_row("thought", _end(text.thought), inks))
    return [*rows, _row("said", _end(text.answer), inks)]


def _end(text: str) -> str:
    """The end of a text on one line."""
    line = " ".join(fmt.clean(text, lines=True).split())
    return line if len(line) <= SHOWN else f"…{line[-SHOWN:]}"


def _row(label: str, value: str | Text, inks: ThemeStyles) -> Text:
    return Text.assemble((f"{label:<{LABEL}}", inks.muted), value)


def _prompt(info: RequestInfo) -> str:
    """`12.4k tokens: 11.9k from the cache, 0.5k read in 1.8 s (280 tok/s)`."""
    if info.prompt_tokens is None:
        return "not counted yet"
    words = f"{request_text.count(info.prompt_tokens)} tokens"
    if info.cached_tokens is None:
        return words
    read = (info.prompt_read or 0) - info.cached_tokens
    words += f": {request_text.count(info.cached_tokens)} from the cache"
    words += f", {request_text.count(max(0, read))} read"
    first_s = info.time_to_first_token_s
    if first_s and read > 0:
        words += f" in {request_text.first(info)} ({read / first_s:.0f} tok/s)"
    return words


def _answer(info: RequestInfo) -> list[str]:
    count = info.completion_tokens or 0
    so_far = " so far" if info.live else ""
    said = [f"{request_text.count(count)} tokens{so_far}" if count else "no token yet" * info.live]
    if info.tokens_per_s is not None:
        said[0] += f", {info.tokens_per_s:.1f} tok/s"
    if info.thought_tokens:
        said[0] += f", {request_text.count(info.thought_tokens)} of them thought"
    if info.max_tokens is not None:
        said.append(f"limit {info.max_tokens}")
    if info.temperature is not None:
        said.append(f"temperature {info.temperature:g}")
    if info.tools:
        said.append(fmt.number(info.tools, "tool"))
    return [part for part in said if part] or ["none"]
