"""Secrets of a core whose questions to the Hub fail, in every way: they are shown nowhere.

What works, and the API's own tokens, are in `api/test_secrets.py`.
"""

from __future__ import annotations

import ast
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import HubUnavailable
from modeldeck.core.privacy.secrets import hidden
from modeldeck.core.schema.errors import to_info
from modeldeck.core.storage.log import clean
from tests.support.process import CoreProcess

REPO = quote("deck/tiny-GGUF", safe="")
MODEL = quote("deck/tiny-GGUF:Q8_0", safe="")
NAMES = quote("deck/tiny-mlx", safe="")
JSON = {"Content-Type": "application/json"}
BOM, HIDDEN = "\ufeff", "\u200b"

HUB_SECRET = "hf_PlantedTokenOfTheHub0123456789"
PASSWORD = "PlantedPasswordOfTheProxy"
SIGNATURE = "PlantedSignatureOfTheStorage"
JWT = "PlantedTokenOfAnotherIssuer.abc-def"


Prepare = Callable[[DemoHub], None]


def echo(hub: DemoHub) -> None:
    """A hub that repeats in its answers which token it was sent."""
    headers = {"X-Error-Message": f"no access for Bearer {HUB_SECRET} or {HUB_SECRET}"}
    hub.faults.answer(403, HUB_SECRET.encode(), headers, times=1000)


def expired(hub: DemoHub) -> None:
    """Signed URLs that the storage does not take."""
    url = f"{hub.storage_url}/x?X-Amz-Signature={SIGNATURE}&X-Amz-Credential={SIGNATURE}"
    location = {"Location": url}
    hub.faults.answer(302, b"", location, times=1000, path="/resolve/")


def nowhere(hub: DemoHub) -> None:
    """Signed URLs of a host without a server."""
    location = {"Location": f"http://127.0.0.1:9/x?Signature={SIGNATURE}"}
    hub.faults.answer(302, b"", location, times=1000, path="/resolve/")


def malformed(hub: DemoHub) -> None:
    location = {"Location": f"http://me:{PASSWORD}@[::1/x?Signature={SIGNATURE}"}
    hub.faults.answer(302, b"", location, times=1000)


def nothing(hub: DemoHub) -> None:
    """A hub as it should be."""


CASES: dict[str, tuple[str, Prepare, str]] = {
    "a token file with an invisible character": (HUB_SECRET + HIDDEN, nothing, "the token in"),
    "a token file of two lines": (f"{HUB_SECRET}\n{JWT}", nothing, "the token in"),
    "a token that is not taken": (BOM + HUB_SECRET, nothing, "does not accept the Hub token"),
    "a hub that echoes": (HUB_SECRET, echo, "no access for"),
    "a malformed link": ("", malformed, "malformed URL"),
    "an expired link": ("", expired, "The storage behind"),
    "a link to nowhere": ("", nowhere, "refused"),
}
"""What the token file holds, what goes wrong, and what some answer must say of it.

The links come last: what the Hub answered before is kept, and stands in for what fails.
"""

PROXY = f"me:{PASSWORD}@127.0.0.1:9"
ENVIRONMENTS = {
    "a token": ({"HF_TOKEN": HIDDEN + JWT}, "the token in HF_TOKEN"),
    "a proxy that is down": ({"http_proxy": f"http://{PROXY}"}, "the proxy 127.0.0.1:9 cannot"),
    "a SOCKS proxy": ({"ALL_PROXY": f"socks5://{PROXY}"}, "SOCKS"),
}


@contextmanager
def running(hub: DemoHub, environ: Mapping[str, str]) -> Iterator[CoreProcess]:
    quick = {"MODELDECK_DOWNLOADS_RETRIES": "1", "MODELDECK_DOWNLOADS_RETRY_WAIT_S": "0.01"}
    everything = {**os.environ, "HF_ENDPOINT": hub.url, **quick, **environ}
    with CoreProcess(everything, ["--verbose"]) as core:
        yield core


def ask(http: httpx.Client) -> list[httpx.Response]:
    """Everything that makes the core ask the Hub, and then everything that it tells."""
    answers = [
        http.get("/deck/search?query=tiny"),
        http.get(f"/deck/repositories/{REPO}"),
        http.get(f"/deck/repositories/{REPO}/card"),
        http.get(f"/deck/models/{MODEL}/fit"),
        http.get(f"/deck/models/{NAMES}/fit"),
        http.post(f"/deck/models/{MODEL}/download", content=b"{}", headers=JSON),
        http.post(f"/deck/models/{MODEL}/load/plan", content=b"{}", headers=JSON),
    ]
    pull = json.dumps({"model": "deck/tiny-GGUF:Q8_0"}).encode()
    with http.stream("POST", "/api/pull", content=pull, headers=JSON) as streamed:
        said = next(streamed.iter_lines(), "")
        # The job ends, or waits for the network; State tells either.
        deadline = time.monotonic() + 60
        while not all(job["error"] for job in http.get("/deck/state").json()["downloads"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)  # or it would be told that it asks too often
    answers.append(httpx.Response(200, text=said))
    told = ("/deck/state", "/deck/log?limit=5000", "/deck/audit", "/metrics")
    return answers + [http.get(path) for path in told]


def check(core: CoreProcess, folder: Path, answers: list[httpx.Response], said: str) -> None:
    """Nothing is told to anybody, by a failure that is the one that is meant."""
    texts = [core.stderr, *(answer.text + repr(answer.headers) for answer in answers)]
    assert said in "".join(texts[1:])
    assert not [answer.text for answer in answers if answer.status_code == 500], core.stderr
    token = folder / "hf" / "token"
    files = [path for path in folder.rglob("*") if path.is_file() and path != token]
    assert any(path.name == "modeldeck.sqlite3" for path in files)
    contents = {path: content(path) for path in files}
    for secret in (HUB_SECRET, HUB_SECRET.removeprefix("hf_"), PASSWORD, SIGNATURE, JWT):
        for text in texts:
            assert secret not in text
        for path, found in contents.items():
            assert secret.encode() not in found, path


def content(path: Path) -> bytes:
    """What a file holds: nothing, if the core has removed it meanwhile."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_no_secret_is_told_when_questions_fail(home: Path, hub: DemoHub) -> None:
    token = home.parent / "hf" / "token"
    token.parent.mkdir()
    with running(hub, {}) as core, httpx.Client(base_url=core.url, timeout=60) as http:
        for content, prepare, said in CASES.values():
            token.write_text(content, encoding="utf-8")
            hub.faults.clear()
            prepare(hub)
            check(core, home.parent, ask(http), said)


@pytest.mark.parametrize(("environ", "said"), ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_no_secret_of_the_environment_is_told(
    home: Path, hub: DemoHub, environ: dict[str, str], said: str
) -> None:
    with (
        running(hub, environ) as core,
        httpx.Client(base_url=core.url, timeout=60, trust_env=False) as http,
    ):
        check(core, home.parent, ask(http), said)


TEXTS = [
    f"Authorization: Bearer {JWT}",
    f"Proxy-Authorization: Basic {PASSWORD}",
    f"b'Bearer {HUB_SECRET}'",
    f"the token {HUB_SECRET}.",
    f"{BOM}{HUB_SECRET}",
    f"http://me:{PASSWORD}@127.0.0.1:9 cannot be reached",
    f"https://s3.example/x?X-Amz-Credential={SIGNATURE}&X-Amz-Signature={SIGNATURE}",
    f"https://cdn.example/x?Policy={SIGNATURE}&Signature={SIGNATURE}&Key-Pair-Id={SIGNATURE}",
    f"/models?token={SIGNATURE}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_known_kinds_of_secrets_are_hidden_wherever_they_come_from(text: str) -> None:
    error = HubUnavailable(text, text)
    for told in (hidden(text), clean(text), str(error), repr(error), repr(to_info(error))):
        for secret in (HUB_SECRET, PASSWORD, SIGNATURE, JWT):
            assert secret not in told


def test_what_is_no_secret_stays() -> None:
    text = "https://hub.example:8/a/b?x=1 and user@host, hf_x, basic words, the bearer of news"
    assert "https://hub.example:8/a/b?x=1 and user@host, hf_x" in hidden(text)


def _caught(tree: ast.AST) -> Iterator[tuple[str, ast.ExceptHandler]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name, node


def test_no_text_is_made_of_the_representation_of_an_error() -> None:
    """`repr` of a UnicodeError or of an h11 error holds the header that could not be sent."""
    found = []
    root = Path(__file__).parents[2]
    for path in (*root.glob("core/**/*.py"), *root.glob("tui/**/*.py")):
        for name, handler in _caught(ast.parse(path.read_text(encoding="utf-8"))):
            for node in ast.walk(handler):
                in_text = isinstance(node, ast.FormattedValue) and node.conversion == ord("r")
                called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "repr"
                value = node.value if isinstance(node, ast.FormattedValue) else None
                if isinstance(node, ast.Call) and node.args:
                    value = node.args[0]
                if (in_text or called) and isinstance(value, ast.Name) and value.id == name:
                    found.append(f"{path.relative_to(root)}:{value.lineno}")
    assert found == []
