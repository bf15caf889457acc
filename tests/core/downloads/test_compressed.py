"""Content that comes compressed, though it was asked for as it is."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.hub_cache import scan
from modeldeck.core.network.encoding import STEP_BYTES, BodyDecoder, Undecodable
from tests.support.hashes import verify

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

MLX = "deck/tiny-mlx"
TINY = "deck/tiny-GGUF"
PADDED = "deck/padded-GGUF"


@pytest.mark.parametrize(("repo", "suffix"), [(MLX, ".json"), (TINY, ".gguf")])
async def test_files_are_decoded_and_their_content_is_verified(
    rig: Rig, repo: str, suffix: str
) -> None:
    rig.hub.compressed = suffix
    files = rig.files(repo, suffix)
    done = await rig.ended((await rig.start(repo, files)).id)
    assert (done.state, done.error) == ("completed", None)
    (snapshot,) = scan.scan(rig.cache.root)
    assert verify(snapshot) == ()
    assert {Path(file.path).suffix for file in snapshot.files} == {suffix}


async def test_a_rest_that_would_come_compressed_is_fetched_whole(rig: Rig) -> None:
    (file,) = rig.files(PADDED)
    rig.hub.faults.stall(4 << 20, times=100, path=file.path)
    job = await rig.start(PADDED, [file])
    await rig.until(job.id, lambda j: j.received_bytes > 1 << 20)
    await rig.downloads.cancel(job.id)
    rig.hub.compressed = ".gguf"
    rig.hub.faults.clear()
    await rig.downloads.resume(job.id)
    done = await rig.ended(job.id)
    assert (done.state, done.error) == ("completed", None)


async def test_a_wrong_content_in_compressed_form_is_not_published(rig: Rig) -> None:
    (file, *_) = rig.files(MLX, "config.json")
    wrong = gzip.compress(bytes(file.size_bytes))
    rig.hub.faults.answer(200, wrong, {"Content-Encoding": "gzip"}, times=100, path=file.path)
    failed = await rig.ended((await rig.start(MLX, [file])).id)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "corrupt")
    assert list(scan.scan(rig.cache.root)) == []


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_what_cannot_be_decoded_is_said_with_a_remedy(rig: Rig, encoding: str) -> None:
    (file, *_) = rig.files(MLX, "config.json")
    broken = {"Content-Encoding": encoding}
    rig.hub.faults.answer(200, b"\x1f\x8b\x08broken", broken, times=100, path=file.path)
    failed = await rig.ended((await rig.start(MLX, [file])).id)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "hub_unavailable")
    assert "compressed" in failed.error.message
    assert "no_proxy" in failed.error.remedy


TEXT = b"Some content that compresses well. " * 20_000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)[2:-4]),  # without zlib's frame, as some servers send it
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_bodies_are_decoded_from_pieces_of_any_size(encoding: str, body: bytes, step: int) -> None:
    body = body if step > 1 or encoding else body[:5000]
    decoder = BodyDecoder(encoding)
    pieces = [p for at in range(0, len(body), step) for p in decoder.pieces(body[at : at + step])]
    assert b"".join(pieces) == (TEXT if encoding else body)
    assert max(map(len, pieces)) <= STEP_BYTES


def test_a_bomb_is_decoded_no_further_than_somebody_asks() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    pieces = BodyDecoder("gzip").pieces(bomb)
    assert len(next(pieces)) == STEP_BYTES


@pytest.mark.parametrize("body", [b"\x1f\x8b\x08broken", b"plain"])
def test_damaged_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(Undecodable):
        list(BodyDecoder("gzip").pieces(body))
    with pytest.raises(Undecodable, match="br"):
        BodyDecoder("br")
