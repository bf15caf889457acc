"""Marks where images and recordings stand in a conversation, through its chat template. Pure.

A template is given the text of messages with a sign in the place of each image. The sign is drawn
anew for every request and cannot be guessed, so that no text of a conversation, whatever it says,
is taken for one. libmtmd itself puts the tokens around an image that the model expects, so the
template's own way of writing images is not asked for: its sign would be one that a text may have.

Where a text has it (`<|image_pad|>`), it would become the very token that stands around or for an
image. So it is cut after its first character by another such sign, and the two parts are tokenized
apart, which neither is a token's name. That goes for all that a client can have a template write:
messages, thoughts, calls, tools and variables of the template. Other special tokens in texts stay
what they are, as in llama.cpp's own server: clients send earlier answers with them.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import GenerateRequest, Media, Message, Tool, ToolCall

SHOWN = "<__media__>"
"""How an image is shown in a prompt that is told as text: llama.cpp's own name for it."""


def media_of(request: GenerateRequest) -> tuple[Media, ...]:
    """The images and recordings of a conversation, in order."""
    return tuple(media for message in request.messages for media in message.media)


_SPECIAL = re.compile(r"<[^<>\s]{1,48}>|\[[A-Z_/]{1,24}\]")
"""What may be the name of a special token."""
_OF_MEDIA = re.compile(
    r"image|img|vision|visual|video|audio|sound|media|slice|tile|row_\d+_col|boi\b|eoi\b",
    re.IGNORECASE,
)


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
"""An escape in JSON; two backslashes are one."""


def unescaped(text: str) -> str:
    r"""JSON text that means the same, without escapes of characters that need none.

    >>> unescaped(r'{"a": "\u003cimage> [\/IMG] \\u003c \u0022 \ud83d\n"}')
    '{"a": "<image> [/IMG] \\\\u003c \\u0022 \\ud83d\\n"}'
    """

    def plain(found: re.Match[str]) -> str:
        if found[0] == "\\/":
            return "/"
        code = int(found[1], 16) if found[1] else 0
        needed = code < 0x20 or 0xD800 <= code < 0xE000 or chr(code) in '"\\'
        return found[0] if needed else chr(code)

    return _ESCAPE.sub(plain, text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _texts(request: GenerateRequest) -> Iterator[str]:
    """All texts of a client that a template may write."""
    for message in request.messages:
        yield from (message.content, message.thought, message.tool_call_id or "")
        for call in message.tool_calls:
            yield from (call.id, call.name, unescaped(call.arguments))
    for tool in request.tools:
        yield from (tool.name, tool.description, _json(tool.parameters))
    yield _json(request.template_options)


def forged_signs(request: GenerateRequest) -> tuple[str, ...]:
    """What stands in the texts of a conversation as a model's own signs of images do.

    >>> forged_signs(GenerateRequest(messages=(
    ...     Message(role="user", content="<|image_pad|> or [IMG], <b> and <img src>"),)))
    ('<|image_pad|>', '[IMG]')
    """
    found = (name for text in _texts(request) for name in _SPECIAL.findall(text))
    return tuple(dict.fromkeys(text for text in found if _OF_MEDIA.search(text)))


def refuse_media(request: GenerateRequest) -> None:
    """Raise InvalidRequest for images and recordings, where an engine reads text only."""
    for media in media_of(request):
        where = f" at {media.place}" if media.place else ""
        raise InvalidRequest(
            f"The {'image' if media.kind == 'image' else 'recording'}{where} cannot be read: MLX "
            "reads text only here.",
            "Take a model in GGUF that has a projector.",
        )


class MediaSigns:
    """The signs of one request's images and recordings."""

    def __init__(
        self, media: Sequence[Media], forged: Sequence[str] = (), secret: str | None = None
    ) -> None:
        """Make signs for a request.

        Args:
            media: Its images and recordings.
            forged: Names of tokens in its texts that must not become these tokens.
            secret: For tests; it is drawn otherwise.
        """
        self._media = media
        # Letters and digits only: some templates change or escape other characters.
        self._secret = f"qzxj{secret or secrets.token_hex(16)}x"
        self._pattern = re.compile(rf"{self._secret}(\d+|c)x")
        longest = sorted(forged, key=len, reverse=True)
        self._forged = re.compile("|".join(map(re.escape, longest))) if forged else None

    def marked(self, request: GenerateRequest) -> GenerateRequest:
        """The request with signs in its texts in place of images."""
        messages: list[Message] = []
        number = 0
        for message in request.messages:
            text, pieces, start = message.content, [], 0
            for media in message.media:
                pieces += [self._cut(text[start : media.at]), f"{self._secret}{number}x"]
                start = max(start, media.at)
                number += 1
            content = "".join((*pieces, self._cut(text[start:])))
            messages.append(self._cut_message(replace(message, content=content, media=())))
        if self._forged is None:
            return replace(request, messages=tuple(messages))
        return replace(
            request,
            messages=tuple(messages),
            tools=tuple(map(self._cut_tool, request.tools)),
            template_options=self._cut_json(request.template_options),
        )

    def _cut_message(self, message: Message) -> Message:
        """A message whose text is cut already, with the rest of what it says cut as well."""
        if self._forged is None:
            return message
        answers = message.tool_call_id
        return replace(
            message,
            thought=self._cut(message.thought),
            tool_calls=tuple(map(self._cut_call, message.tool_calls)),
            tool_call_id=None if answers is None else self._cut(answers),
        )

    def _cut_call(self, call: ToolCall) -> ToolCall:
        plain = unescaped(call.arguments)
        cut = self._cut(plain)
        return ToolCall(
            id=self._cut(call.id),
            name=self._cut(call.name),
            arguments=call.arguments if cut == plain else cut,
        )

    def _cut_tool(self, tool: Tool) -> Tool:
        return replace(
            tool,
            name=self._cut(tool.name),
            description=self._cut(tool.description),
            parameters=self._cut_json(tool.parameters),
        )

    def _cut_json(self, value: dict[str, Any]) -> dict[str, Any]:
        """An object of JSON with its texts cut; the sign is of letters and digits only."""
        text = _json(value)
        cut = self._cut(text)
        found: dict[str, Any] = value if cut == text else json.loads(cut)
        return found

    def _cut(self, text: str) -> str:
        """A text with a sign after the first character of each name that it must not have."""
        if self._forged is None:
            return text
        return self._forged.sub(lambda m: f"{m[0][0]}{self._secret}cx{m[0][1:]}", text)

    def split(self, text: str) -> list[str | int]:
        """A rendered conversation as texts, and the numbers of images between them.

        Texts that follow each other are to be tokenized apart. Raises InvalidRequest where the
        template left an image out.
        """
        parts: list[str | int] = []
        for i, piece in enumerate(self._pattern.split(text)):
            if i % 2:
                parts += [int(piece)] if piece != "c" else []
            elif piece:
                parts.append(piece)
        for number, media in enumerate(self._media):
            if number not in parts:
                raise InvalidRequest(
                    f"The model's chat template leaves out what stands at {media.place}."
                    if media.place
                    else "The model's chat template leaves out an image or a recording.",
                    "Put it into a message of the user.",
                )
        return parts

    def shown(self, text: str) -> str:
        """A rendered conversation, as it is told to others."""
        return self._pattern.sub(lambda m: "" if m[1] == "c" else SHOWN, text)
