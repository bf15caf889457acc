"""Answers of a core as records, or as the errors that they tell of. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from modeldeck.core import errors
from modeldeck.core.client.transport import CoreResponse
from modeldeck.core.errors import DeckError, FeedRefused
from modeldeck.core.schema.errors import ErrorInfo, from_info

T = TypeVar("T")

ERROR_BYTES = 1 << 20
"""Bytes of an answer that is an error."""
LONGEST_TEXT = 300
"""Characters of an answer that is no error of a core, in an error."""

OTHER_VERSION = "It may be another version of modeldeck: `modeldeck stop` ends it."


def record(kind: type[T], value: Any) -> T:
    """Convert an answer to a record; unknown fields are ignored. Raises DeckError."""
    return read(lambda wire: msgspec.convert(wire, kind), value)


def read(reader: Callable[[Any], T], value: Any) -> T:
    """Apply the reader to an answer. Raises DeckError for one that it cannot convert."""
    try:
        return reader(value)
    except msgspec.ValidationError as error:
        raise DeckError(f"The core's answer is not understood: {error}.", OTHER_VERSION) from error


def member(answer: Any, name: str) -> Any:
    """Return the field of an answer. Raises DeckError where it has none."""
    if not isinstance(answer, dict) or name not in answer:
        raise DeckError(f"The core's answer has no {name!r}.", OTHER_VERSION)
    return answer[name]


def items(answer: Any, name: str) -> Any:
    """Return the list that an answer is, or that it holds under a name."""
    return answer.get(name, []) if isinstance(answer, dict) else answer


def error_of(response: CoreResponse, answer: bytes) -> DeckError:
    """The error that an answer with status 400 and above records, in each of the API's styles."""
    try:
        body = msgspec.json.decode(answer)["error"]
    except (msgspec.DecodeError, KeyError, TypeError):
        words = answer[:ERROR_BYTES].decode(errors="replace").split()
        text = " ".join(words)[:LONGEST_TEXT] or response.reason
        return DeckError(f"The core answered {response.status}: {text}")
    return recorded(body, f"The core answered {response.status}.")


def refusal(where: str, status: int, body: bytes) -> DeckError:
    """Why the handshake of the feed was answered with an HTTP status other than 101.

    A status that may pass is a FeedRefused, which is tried again: 429 (RFC 6585, section 4) and
    those of 500 and above (RFC 9110, section 15.6), but 501 and 505. A status that only another
    version of the core gives is told as that. All others are what they say.
    """
    try:
        said = recorded(msgspec.json.decode(body)["error"], "")
    except (msgspec.DecodeError, KeyError, TypeError):
        said = DeckError("")  # a proxy in between, or no core
    what = f"{where} refuses the feed with status {status}"
    message = f"{what}: {said.message}" if said.message else f"{what}."
    if status == 429 or (status >= 500 and status not in (501, 505)):
        return FeedRefused(message, said.remedy, details=said.details)
    if status in (404, 405, 426, 501, 505):
        return DeckError(message, OTHER_VERSION)
    kind = {401: errors.Unauthorized, 403: errors.Forbidden}.get(status, type(said))
    return kind(message, said.remedy or _REFUSED.get(status, ""), details=said.details)


_REFUSED = {
    401: "It wants a token that it knows: see --token-file and `modeldeck token create`.",
    403: "The token, or this machine's address, is not allowed to watch.",
}
"""Remedies for answers without one."""


def recorded(body: Any, otherwise: str) -> DeckError:
    """The error in an error object, the native one or OpenAI's."""
    if not isinstance(body, dict):
        return DeckError(otherwise)
    details = body.get("details")
    code = str(body.get("code") or "")
    return from_info(
        ErrorInfo(
            code="not_found" if code == "model_not_found" else code,
            message=str(body.get("message") or otherwise),
            remedy=str(body.get("remedy") or ""),
            details=tuple(map(str, details)) if isinstance(details, list) else (),
        )
    )
