"""Parse responses of the Hub's API, within limits. Pure; call it in a thread.

Each search hit and each file of a repository is decoded separately, so that an invalid one does not
affect the others. Source: the Hub's OpenAPI description, `GET /api/models` and
`GET /api/models/{repo}/revision/{rev}`, as huggingface_hub's `ModelInfo` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from modeldeck.core.catalog.variants import variants
from modeldeck.core.errors import HubUnavailable, InvalidRequest
from modeldeck.core.formats.hub_names import check_blob, check_repo, is_commit
from modeldeck.core.schema import Format, RepoFile, Repository, SearchHit

T = TypeVar("T")

MAX_SEARCH = 4 << 20
"""Maximum bytes of a search response; a hundred hits take 200 KB."""
MAX_REPOSITORY = 8 << 20
"""Maximum bytes of a repository response; a thousand files take 300 KB."""
MAX_ENTRIES = 500_000
"""Maximum commas in a response, which limits its values: decoding holds the GIL."""
MAX_FILES = 20_000
"""Maximum files of a repository."""
MAX_TAGS = 500
MAX_TEXT = 200
"""Maximum characters of a tag, a licence or a date."""
MAX_COUNT = 1 << 53
"""The largest integer that every JSON parser represents exactly."""

FORMATS: tuple[Format, ...] = ("gguf", "mlx")
_PARAMETERS = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([BM])(?![A-Za-z0-9])", re.IGNORECASE)


class _Record(msgspec.Struct, rename="camel"):
    """The used fields of a model's record. A raw field may be invalid; it is decoded separately."""

    id: str
    sha: str | None = None
    downloads: msgspec.Raw = msgspec.Raw(b"null")
    likes: msgspec.Raw = msgspec.Raw(b"null")
    last_modified: msgspec.Raw = msgspec.Raw(b"null")
    gated: msgspec.Raw = msgspec.Raw(b"null")
    tags: msgspec.Raw = msgspec.Raw(b"null")
    card_data: msgspec.Raw = msgspec.Raw(b"null")
    siblings: list[msgspec.Raw] | None = None


class _Lfs(msgspec.Struct):
    sha256: str
    size: int


class _Sibling(msgspec.Struct, rename="camel"):
    rfilename: str
    size: int | None = None
    blob_id: str | None = None
    lfs: _Lfs | None = None


class _CardDocument(msgspec.Struct):
    license: str


def hits(endpoint: str, data: bytes, limit: int) -> list[SearchHit]:
    """Parse search hits, at most `limit`. Raises HubUnavailable for an invalid response."""
    items = _decoded(endpoint, data, list[msgspec.Raw])
    return list(filter(None, map(_hit, items[:limit])))


def repository(endpoint: str, data: bytes) -> Repository:
    """Parse a repository with its variants. Raises HubUnavailable for an invalid response."""
    record = _decoded(endpoint, data, _Record)
    siblings = record.siblings or []
    if len(siblings) > MAX_FILES:
        raise HubUnavailable(
            f"{endpoint} lists {len(siblings)} files in one repository; modeldeck reads at most"
            f" {MAX_FILES}.",
            "Take a repository that holds fewer.",
        )
    try:
        repo = check_repo(record.id)
    except InvalidRequest as error:
        raise _no_hub(endpoint, "its repository has an invalid name") from error
    if not is_commit(record.sha or ""):
        raise _no_hub(endpoint, f"it did not say which commit {repo} is at")
    files = [file for file in map(_file, siblings) if file is not None]
    tags = _tags(record)
    return Repository(
        repo=repo,
        revision=str(record.sha),
        license=_license(record, tags),
        gated=_gated(record),
        downloads=_count(record.downloads),
        likes=_count(record.likes),
        last_modified=_moment(record.last_modified),
        tags=tags,
        variants=variants(repo, files, mlx=True if "mlx" in tags else None),
    )


def merged(found: Iterable[SearchHit]) -> list[SearchHit]:
    """Merge the hits of each repository with all its formats, most downloaded first."""
    by_repo: dict[str, SearchHit] = {}
    for hit in found:
        other = by_repo.get(hit.repo, hit)
        formats = tuple(name for name in FORMATS if name in {*hit.formats, *other.formats})
        by_repo[hit.repo] = replace(hit, formats=formats)
    return sorted(by_repo.values(), key=lambda hit: (-(hit.downloads or 0), hit.repo))


def parameters(repo: str) -> float | None:
    """Return billions of parameters from the repository's name, or None."""
    found = _PARAMETERS.search(repo.rsplit("/", 1)[-1].replace("_", "-"))
    if found is None:
        return None
    count = float(found[1])
    return count / 1000 if found[2].upper() == "M" else count


USES: Mapping[str, frozenset[str]] = {
    "vision": frozenset({"image-text-to-text", "visual-question-answering", "any-to-any"}),
    "audio": frozenset({"audio-text-to-text", "automatic-speech-recognition", "any-to-any"}),
    "tools": frozenset({"function-calling", "tool-use", "tool-calling", "function_calling"}),
    "thinking": frozenset({"reasoning", "thinking", "chain-of-thought"}),
    "embedding": frozenset({"feature-extraction", "sentence-similarity"}),
    "rerank": frozenset({"text-ranking", "reranker", "rerank"}),
}
"""Tags by what they tell of a model: tasks of the Hub, and words that authors give."""


def usage(tags: Iterable[str]) -> tuple[str, ...]:
    """What the tags of a repository tell of it, as in `SearchHit.usage`.

    >>> usage(["gguf", "image-text-to-text", "reasoning"])
    ('vision', 'thinking')
    """
    given = {tag.casefold() for tag in tags}
    return tuple(name for name, known in USES.items() if known & given)


def _decoded(endpoint: str, data: bytes, kind: type[T]) -> T:
    if data.lstrip()[:1] == b"<":
        raise _no_hub(
            endpoint, "it sent a web page, as a proxy or the login page of a network does"
        )
    if data.count(b",") > MAX_ENTRIES:
        raise _no_hub(endpoint, "its answer has too many entries")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _no_hub(endpoint, "its answer is not the JSON that the API describes") from error


def _no_hub(endpoint: str, how: str) -> HubUnavailable:
    return HubUnavailable(
        f"{endpoint} did not answer as a Hub does: {how}.", "Check `hub.endpoint`."
    )


def _hit(item: msgspec.Raw) -> SearchHit | None:
    """Parse a hit; None if it is invalid."""
    record = _part(item, _Record)
    try:
        repo = check_repo(record.id) if record is not None else ""
    except InvalidRequest:
        return None
    if record is None:
        return None
    tags = _tags(record)
    return SearchHit(
        repo=repo,
        downloads=_count(record.downloads),
        likes=_count(record.likes),
        last_modified=_moment(record.last_modified),
        gated=_gated(record),
        license=_license(record, tags),
        formats=tuple(name for name in FORMATS if name in tags),
        parameters=parameters(repo),
        usage=usage(tags),
    )


def _file(item: msgspec.Raw) -> RepoFile | None:
    """Parse a file of a repository; None if it lacks hash or size."""
    sibling = _part(item, _Sibling)
    if sibling is None:
        return None
    lfs = sibling.lfs
    blob, size = (lfs.sha256, lfs.size) if lfs else (sibling.blob_id, sibling.size)
    if blob is None or size is None or not 0 <= size <= MAX_COUNT:
        return None
    try:
        check_blob(blob)
    except InvalidRequest:
        return None
    return RepoFile(path=sibling.rfilename, size_bytes=size, blob=blob, lfs=lfs is not None)


def _part(raw: msgspec.Raw, kind: type[T]) -> T | None:
    """Decode a part of a response; None if it has another type."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _tags(record: _Record) -> tuple[str, ...]:
    tags = _part(record.tags, list[str]) or []
    return tuple(tag for tag in tags[:MAX_TAGS] if len(tag) <= MAX_TEXT)


def _count(raw: msgspec.Raw) -> int | None:
    found = _part(raw, int)
    return found if found is not None and 0 <= found <= MAX_COUNT else None


def _gated(record: _Record) -> bool:
    return bool(_part(record.gated, bool | str))  # type: ignore[arg-type] # a union is no type


def _license(record: _Record, tags: Iterable[str]) -> str | None:
    card = _part(record.card_data, _CardDocument)
    if card is not None and len(card.license) <= MAX_TEXT:
        return card.license
    parts = (tag.partition(":") for tag in tags)
    return next((value for name, _, value in parts if name == "license"), None)


def _moment(raw: msgspec.Raw) -> str | None:
    text = _part(raw, str)
    if text is None or len(text) > MAX_TEXT:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return None
