"""What the Hub's refusals mean, as huggingface_hub reads them."""

from __future__ import annotations

import httpx
import pytest
from httpx2 import Request as TheirRequest
from httpx2 import Response as TheirResponse
from huggingface_hub.errors import DisabledRepoError, GatedRepoError, RepositoryNotFoundError
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined] # no re-export

from modeldeck.core.errors import DeckError, Gated, HubUnavailable, NotFound
from modeldeck.core.network.refusals import of_hub

HUB = "https://hub.example"
BAD_TOKEN = "Invalid credentials in Authorization header"
DISABLED = "Access to this resource is disabled."

CASES: list[tuple[int, dict[str, str], type[DeckError], str]] = [
    (401, {"X-Error-Code": "GatedRepo"}, Gated, "licence"),
    (403, {"X-Error-Code": "GatedRepo"}, Gated, "licence"),
    (401, {"X-Error-Code": "RepoNotFound"}, NotFound, "o/r is not on the Hub, or it is private."),
    (401, {"X-Error-Message": "Invalid username or password."}, NotFound, "or it is private"),
    (404, {"X-Error-Code": "RevisionNotFound"}, NotFound, "no such revision"),
    (404, {"X-Error-Code": "EntryNotFound"}, NotFound, "no such file"),
    (404, {}, NotFound, "not on the Hub"),
    (403, {"X-Error-Message": DISABLED}, NotFound, "disabled"),
    (401, {"X-Error-Message": BAD_TOKEN}, Gated, "does not accept the Hub token"),
    (403, {"X-Error-Message": "Forbidden: IP not allowed."}, Gated, "IP not allowed"),
    (403, {}, HubUnavailable, "without saying why"),
    (401, {}, HubUnavailable, "without saying why"),
    (407, {}, HubUnavailable, "without saying why"),
    (429, {}, HubUnavailable, "asks to wait"),
    (500, {"X-Error-Message": "Internal error"}, HubUnavailable, "Internal error"),
    (451, {}, HubUnavailable, "451"),
]


@pytest.mark.parametrize(("status", "headers", "kind", "said"), CASES)
def test_refusals_of_a_repository(
    status: int, headers: dict[str, str], kind: type[DeckError], said: str
) -> None:
    error = of_hub(HUB, "o/r", status, httpx.Headers(headers))
    assert type(error) is kind
    assert said in error.message
    assert error.remedy


@pytest.mark.parametrize(
    ("status", "headers", "kind", "said"),
    [
        (401, {"X-Error-Message": BAD_TOKEN}, Gated, "does not accept the Hub token"),
        (401, {"X-Error-Message": "Log in."}, HubUnavailable, "refuses the search: Log in"),
        (403, {"X-Error-Code": "GatedRepo"}, HubUnavailable, "refuses the search"),
        (403, {}, HubUnavailable, "without saying why"),
        (404, {}, HubUnavailable, "did not answer as a Hub does"),
        (429, {}, HubUnavailable, "asks to wait"),
    ],
)
def test_a_refused_search_says_nothing_of_a_repository(
    status: int, headers: dict[str, str], kind: type[DeckError], said: str
) -> None:
    error = of_hub(HUB, None, status, httpx.Headers(headers))
    assert type(error) is kind
    assert said in error.message
    assert "gated" not in str(error)
    assert "repository" not in error.message


@pytest.mark.parametrize(("status", "headers", "kind", "said"), CASES)
def test_the_hubs_own_client_reads_them_alike(
    status: int, headers: dict[str, str], kind: type[DeckError], said: str
) -> None:
    request = TheirRequest("GET", f"{HUB}/api/models/o/r")
    try:
        hf_raise_for_status(TheirResponse(status, headers=headers, request=request))
    except GatedRepoError:
        assert kind is Gated
    except DisabledRepoError:
        assert (kind, said) == (NotFound, "disabled")
    except RepositoryNotFoundError:
        # It takes every 401 for one; without a word of the Hub we know no better than the status.
        assert kind is (NotFound if headers else HubUnavailable)
    except Exception:
        assert said != "licence"
    else:
        pytest.fail("no error")


def test_what_the_hub_says_is_shown_on_one_line_and_without_secrets() -> None:
    said = "x\r\n" + "hf_" + "a" * 30 + "y" * 500
    error = of_hub(HUB, "o/r", 403, {"x-error-message": said})
    assert "\n" not in error.message
    assert "hf_aaa" not in error.message
    assert len(error.message) < 300
