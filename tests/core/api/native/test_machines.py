"""What machines ask of each other, and status bars of theirs, against a real core."""

from __future__ import annotations

import doctest
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from modeldeck.core.api.native import machines
from modeldeck.core.errors import Forbidden
from modeldeck.core.schema.protocol import PROTOCOL
from modeldeck.core.service.library.copying import check_own
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"


@pytest.fixture
def http(shared_core: CoreProcess) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(shared_core.socket))
    with httpx.Client(base_url="http://localhost", transport=transport, timeout=60) as client:
        yield client


@pytest.fixture
def manifest(http: httpx.Client) -> Any:
    """Of a model that is downloaded."""
    http.post(f"/deck/models/{quote(TINY, safe='')}/download", json={}).raise_for_status()
    while True:
        answer = http.get(f"/deck/models/{quote(TINY, safe='')}/manifest")
        if answer.status_code == 200:
            return answer.json()
        assert answer.json()["error"]["code"] == "not_downloaded"


def test_the_examples_hold() -> None:
    assert doctest.testmod(machines).failed == 0


def test_a_summary_is_short_and_says_what_is_spoken(http: httpx.Client) -> None:
    answer = http.get("/deck/summary")
    assert answer.json()["protocol"] == PROTOCOL
    assert len(answer.content) < 1000


def test_a_manifest_names_contents_that_can_be_fetched_by_their_hash(
    http: httpx.Client, manifest: Any
) -> None:
    (file,) = manifest["files"]
    assert manifest["model"]["unique"] == TINY
    assert (manifest["repo"], manifest["ref"]) == ("deck/tiny-GGUF", "main")
    path = f"/deck/blobs/{quote(manifest['repo'], safe='')}/{file['blob']}"
    whole = http.get(path)
    assert whole.status_code == 200
    assert hashlib.sha256(whole.content).hexdigest() == file["blob"]
    part = http.get(path, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, whole.content[5:10])
    assert part.headers["content-range"] == f"bytes 5-9/{file['size_bytes']}"
    assert part.headers["etag"] == f'"{file["blob"]}"'


@pytest.mark.parametrize(
    ("repo", "blob", "status"),
    [
        ("deck/tiny-GGUF", "0" * 64, 404),
        ("nobody/nothing", "0" * 64, 404),
        ("deck/tiny-GGUF", "../x", 400),
        ("../..", "0" * 64, 400),
        ("deck/tiny-GGUF", "main", 400),
    ],
)
def test_only_contents_of_the_cache_are_given(
    http: httpx.Client, repo: str, blob: str, status: int
) -> None:
    answer = http.get(f"/deck/blobs/{quote(repo, safe='')}/{quote(blob, safe='')}")
    assert answer.status_code == status


def test_a_model_is_taken_only_over_a_socket_and_from_a_socket(
    http: httpx.Client, manifest: Any, shared_core: CoreProcess, tmp_path: Path
) -> None:
    body = {"manifest": manifest, "peer": str(tmp_path / "nothing")}
    assert httpx.post(f"{shared_core.url}/deck/take", json=body).status_code == 403
    assert http.post("/deck/take", json=body).status_code == 403
    plain = tmp_path / "file"
    plain.touch()
    assert http.post("/deck/take", json=body | {"peer": str(plain)}).status_code == 403
    body["peer"] = str(shared_core.socket)
    assert http.post("/deck/take", json=body).json()["download"] is None, "it is here already"
    lie = {**manifest, "model": {**manifest["model"], "unique": "deck/other-GGUF:Q8_0"}}
    assert http.post("/deck/take", json=body | {"manifest": lie}).status_code == 400


def test_a_link_to_a_socket_is_none_of_ones_own(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as real:
        real.bind(str(tmp_path / "s"))
        check_own(str(tmp_path / "s"))
        (tmp_path / "link").symlink_to(tmp_path / "s")
        with pytest.raises(Forbidden):
            check_own(str(tmp_path / "link"))
