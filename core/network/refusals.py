"""Maps error responses of the Hub to errors with remedies. Pure.

Source: huggingface_hub, `hf_raise_for_status`. The Hub states the reason in `X-Error-Code` and
`X-Error-Message`; a response without either often comes from a proxy or a login page. The Hub
answers 401 both for a missing repository and for a private one without a token, so that the names
of private repositories stay secret.
"""

from __future__ import annotations

from collections.abc import Mapping

from modeldeck.core.errors import DeckError, Gated, HubUnavailable, NotFound

_BAD_TOKEN = "invalid credentials in authorization header"  # noqa: S105 - a message of the Hub
_DISABLED = "access to this resource is disabled."
_MISSING = {
    "RevisionNotFound": "has no such revision",
    "EntryNotFound": "has no such file",
}
_NOT_THERE = "is not on the Hub, or it is private"
_MESSAGE_LIMIT = 200
_LATER = "Try again later."
_LOGIN = "log in with `hf auth login` or set HF_TOKEN"


def of_hub(
    endpoint: str,
    repo: str | None,
    status: int,
    headers: Mapping[str, str],
    *,
    has_token: bool = False,
) -> DeckError:
    """The error for a response of the Hub without content.

    Args:
        endpoint: The Hub's base URL.
        repo: The repository that was requested; None for a search.
        status: The HTTP status.
        headers: Those of the response, with names that ignore case.
        has_token: Whether the request carried a token.
    """
    code, message = headers.get("x-error-code", ""), _message(headers)
    if message.lower() == _BAD_TOKEN:
        return Gated(
            f"{endpoint} does not accept the Hub token of this machine.",
            "It was revoked or is incomplete: log in again with `hf auth login`, or unset HF_TOKEN;"
            " public repositories need none.",
        )
    if repo is None:
        return _by_status(endpoint, "the search", status, headers, message)
    if code == "GatedRepo":
        return Gated(
            f"{repo} is gated: it needs its licence accepted first.",
            f"Accept it at {endpoint}/{repo}, then {_LOGIN}.",
        )
    if message.lower() == _DISABLED:
        return NotFound(
            f"{repo} is disabled on {endpoint} and cannot be fetched.", "Take another repository."
        )
    if code in _MISSING or status == 404 or (status == 401 and _is_from_hub(headers)):
        return NotFound(
            f"{repo} {_MISSING.get(code, _NOT_THERE)}.",
            "Check the name; a private repository needs a token (`hf auth login`).",
        )
    if status == 403 and _is_from_hub(headers):
        return Gated(
            f"{endpoint} refuses {_with(repo, message)}.",
            "Check what the token of this machine may do (`hf auth whoami`)."
            if has_token
            else f"If it needs a token, {_LOGIN}.",
        )
    return _by_status(endpoint, repo, status, headers, message)


def _by_status(
    endpoint: str, what: str, status: int, headers: Mapping[str, str], message: str
) -> DeckError:
    """The error for a status without a reason that concerns the repository."""
    if status in (401, 403, 407) and not _is_from_hub(headers):
        return HubUnavailable(
            f"{endpoint} answered {status} for {what}, without saying why as the Hub does.",
            "A proxy, a firewall or a login page of your network may have answered instead: open"
            f" {endpoint} in a browser, and check https_proxy and `hub.endpoint`.",
        )
    if status in (401, 403):
        return HubUnavailable(
            f"{endpoint} refuses {_with(what, message)}.", f"If it needs a token, {_LOGIN}."
        )
    if status == 404:
        return HubUnavailable(
            f"{endpoint} did not answer as a Hub does: 404 for {what}.", "Check `hub.endpoint`."
        )
    if status == 429:
        return HubUnavailable(f"{endpoint} asks to wait: too many requests.", _LATER)
    return HubUnavailable(f"{endpoint} answered {status} for {_with(what, message)}.", _LATER)


def _with(what: str, message: str) -> str:
    return f"{what}: {message.rstrip('.')}" if message else what


def _is_from_hub(headers: Mapping[str, str]) -> bool:
    """Whether the Hub itself sent this response: a proxy's page has neither header."""
    return bool(headers.get("x-error-code") or headers.get("x-error-message"))


def _message(headers: Mapping[str, str]) -> str:
    """`X-Error-Message` on one line, printable and shortened, since it is shown to users."""
    text = " ".join(headers.get("x-error-message", "").split())
    return "".join(char for char in text if char.isprintable())[:_MESSAGE_LIMIT]
