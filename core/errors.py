"""The errors a person or a program can meet, each with what to do about it.

    DeckError
      InvalidRequest 400        Unauthorized 401     Forbidden 403
      NotFound 404              Conflict 409         TooLarge 413
      Ambiguous (Conflict)      Busy 503             ShuttingDown 503
      NotDownloaded (Conflict)  InUse (Conflict)     AlreadyRunning (Conflict)
      LoadedAlready (Conflict)
      ContextExceeded (InvalidRequest)           AnswerNotFound (NotFound)
      PreviousAnswerNotFound, ImageNotSupported, AudioNotSupported (InvalidRequest)
      ConversationNotFound (NotFound)
      HubUnavailable 502        Gated 403            Corrupt 502
      StorageFailed 500         NotEnoughDisk 507 (StorageFailed)
      StorageTimeout 504 (StorageFailed)
      NotEnoughMemory 507       EngineMissing 501    EngineFailed 500
      Cancelled 499
      HeadTooLarge 431          RequestTimeout 408   NotImplementedHere 501
      TooManyRequests 429
      CoreUnreachable, FeedRefused, Incompatible, TimedOut   (only ever raised by a front end)

The class survives the wire: `to_info` on one side, `from_info` on the other. What is not a
`DeckError` is a bug, and is treated as one.
"""

from __future__ import annotations

import re
from typing import ClassVar

from modeldeck.core.privacy.secrets import hidden


class DeckError(Exception):
    """An expected failure. `message` says what happened, `remedy` what to do.

    Secrets in either are hidden: errors go to terminals, logs, State and answers.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    """HTTP status of the native API (RFC 9110, section 15)."""

    final = False
    """Whether the same request would fail again, so that clients must not repeat it unasked."""

    def __init__(self, message: str, remedy: str = "", *, details: tuple[str, ...] = ()) -> None:
        self.message = hidden(message)
        self.remedy = hidden(remedy)
        super().__init__(self.message)
        self.details = tuple(map(hidden, details))

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InvalidRequest(DeckError):
    """The request cannot be understood, or asks for a value that is impossible."""

    code = "invalid_request"
    status = 400


class ContextExceeded(InvalidRequest):
    """The request has more tokens than the model was loaded for."""

    code = "context_length_exceeded"
    """OpenAI's word: programs that see it send less and try again."""

    @classmethod
    def of(cls, prompt_tokens: int, context_tokens: int) -> ContextExceeded:
        """The error in the words that programs look for: LangChain, litellm, Codex and others."""
        return cls(
            f"This model's maximum context length is {context_tokens} tokens, but the prompt is "
            f"too long: {prompt_tokens} tokens ({cls.code}).",
            "Send less, or load the model with a larger context length.",
        )

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Tokens of the prompt and of the context; only the message has them after the wire."""
        found = re.search(r"is ([0-9]+) tokens, .*: ([0-9]+) tokens", self.message)
        return (int(found[2]), int(found[1])) if found else None


class ImageNotSupported(InvalidRequest):
    """The model does not take the images of the request."""

    code = "image_not_supported"


class AudioNotSupported(InvalidRequest):
    """The model does not take the recordings of the request."""

    code = "audio_not_supported"


class PreviousAnswerNotFound(InvalidRequest):
    """The answer that a request goes on from is not kept."""

    code = "previous_response_not_found"
    """OpenAI's word: clients then send the whole conversation."""


class Unauthorized(DeckError):
    """A token is needed, and none or a wrong one came."""

    code = "unauthorized"
    status = 401


class Forbidden(DeckError):
    """Refused before anything was looked at: wrong Host, foreign Origin, or not in scope."""

    code = "forbidden"
    status = 403


class NotFound(DeckError):
    """There is no such model, download, instance, repository or route."""

    code = "not_found"
    status = 404


class AnswerNotFound(NotFound):
    """No answer with this id is kept for this caller."""

    code = "response_not_found"


class ConversationNotFound(NotFound):
    """No conversation, or no item in one, with this id is kept for this caller."""

    code = "conversation_not_found"


class UnknownRoute(NotFound):
    """There is nothing at this path of the API."""

    code = "unknown_route"


class MethodNotAllowed(DeckError):
    """The route exists, but not with this method."""

    code = "method_not_allowed"
    status = 405


class Conflict(DeckError):
    """The thing is in a state that does not allow this."""

    code = "conflict"
    status = 409


class Ambiguous(Conflict):
    """A short name that fits several models."""

    code = "ambiguous"
    final = True


class AlreadyRunning(Conflict):
    """Another core holds the state folder."""

    code = "already_running"


class NotDownloaded(Conflict):
    """The model's files are not on this machine."""

    code = "not_downloaded"
    final = True


class InUse(Conflict):
    """The model is answering, or its files are loaded or being downloaded."""

    code = "in_use"
    final = True


class LoadedAlready(Conflict):
    """The model is loaded with other options, and a reload was not asked for."""

    code = "loaded_already"
    final = True


class TooManyRequests(DeckError):
    """The caller asks more often, or more at once, than it may (RFC 6585, section 4)."""

    code = "too_many_requests"
    status = 429
    retry_after_s = 1
    """When to ask again."""


class TooLarge(DeckError):
    """The request's body or head is over the limit."""

    code = "too_large"
    status = 413


class HeadTooLarge(TooLarge):
    """The request line or the headers are over the limit (RFC 6585, section 5)."""

    code = "head_too_large"
    status = 431


class RequestTimeout(DeckError):
    """The request did not come to its end in time (RFC 9110, section 15.5.9)."""

    code = "request_timeout"
    status = 408


class NotImplementedHere(DeckError):
    """A transfer coding that is not `chunked` (RFC 9112, section 6.1)."""

    code = "not_implemented"
    status = 501
    final = True


class UnsupportedMediaType(DeckError):
    """The body is not JSON, or does not say that it is."""

    code = "unsupported_media_type"
    status = 415


class Cancelled(DeckError):
    """The action was called off before it was done."""

    code = "cancelled"
    status = 499


class Busy(DeckError):
    """Too much is waiting already."""

    code = "busy"
    status = 503


class ShuttingDown(DeckError):
    """The core is about to end and takes no new work."""

    code = "shutting_down"
    status = 503


class HubUnavailable(DeckError):
    """The Hub could not be reached, or did not answer as it should."""

    code = "hub_unavailable"
    status = 502


class ServerUnavailable(HubUnavailable):
    """A server that a model's URL leads to cannot be reached, or answers with errors."""

    code = "server_unavailable"


class Gated(DeckError):
    """The repository needs its licence accepted, or a token that is allowed to read it."""

    code = "gated"
    status = 403


class Corrupt(DeckError):
    """What arrived, or what lies on disk, is not what it should be."""

    code = "corrupt"
    status = 502
    final = True


class NotEnoughMemory(DeckError):
    """The model would not fit the memory that is free."""

    code = "not_enough_memory"
    status = 507
    final = True


class StorageFailed(DeckError):
    """The operating system refused to read or write a file."""

    code = "storage_failed"
    status = 500


class NotEnoughDisk(StorageFailed):
    """The disk is full, or the files would not leave the floor of free disk.

    A storage failure: code that handles `StorageFailed` handles a full disk as well.
    """

    code = "not_enough_disk"
    status = 507
    final = True


class StorageTimeout(StorageFailed):
    """A file, or the disk or network mount it is on, did not answer within the time limit."""

    code = "storage_timeout"
    status = 504


class EngineMissing(DeckError):
    """The engine that this model needs is not installed."""

    code = "engine_missing"
    status = 501
    final = True


class EngineFailed(DeckError):
    """The engine refused the model, or its process ended."""

    code = "engine_failed"
    status = 500


class CoreUnreachable(DeckError):
    """No core answers where it should."""

    code = "core_unreachable"
    status = 503


class FeedRefused(CoreUnreachable):
    """The core gives no feed now, and may give one later (HTTP 429, or 5xx)."""

    code = "feed_refused"


class Incompatible(CoreUnreachable):
    """A core answers, but it and this front end do not understand each other."""

    code = "incompatible"


class TimedOut(DeckError):
    """What was waited for did not come in the time that was given."""

    code = "timed_out"
    status = 504


def _tree(cls: type[DeckError]) -> list[type[DeckError]]:
    return [cls, *(leaf for sub in cls.__subclasses__() for leaf in _tree(sub))]


BY_CODE: dict[str, type[DeckError]] = {cls.code: cls for cls in _tree(DeckError)}
