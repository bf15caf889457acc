"""Client of the Hub: search, repositories, model cards, and headers of remote files.

Theory of operation. Every successful response is cached on disk; when the Hub cannot be reached,
the cached response is returned, marked as such. A refusal (gated, not found) is never replaced by a
cached response.

Responses have limits of bytes, entries and time, and are parsed in threads; ids, commits, hashes
and sizes are validated. huggingface_hub is not used here: it reads responses of any size, has its
own rules for proxies and certificates, and takes a second to import.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from modeldeck.core.catalog import model_card, records
from modeldeck.core.catalog.range_reader import RangeReader
from modeldeck.core.catalog.response_cache import ResponseCache
from modeldeck.core.concurrency import together
from modeldeck.core.errors import Corrupt, HubUnavailable, InvalidRequest, NotFound
from modeldeck.core.formats import gguf_parser, mlx_folder, safetensors
from modeldeck.core.formats.gguf_parser import GgufHeader
from modeldeck.core.formats.hub_names import check_blob, check_repo, check_revision
from modeldeck.core.network.proxy_selector import ProxySelector
from modeldeck.core.schema import Card, Format, RepoFile, Repository, SearchHit, SearchResult

T = TypeVar("T")

ANSWERS_LIMIT = 64 << 20
"""Bytes of cached responses: a few thousand repositories."""
HEADERS_LIMIT = 256 << 20
"""Bytes of cached headers: about fifty models of 5 MB each."""
PARALLEL_HEADERS = 4
"""Headers that are read at once: each may take `gguf_parser.MAX_HEADER` of memory."""
FOLDER_LIMIT = 256 << 20
"""Maximum bytes of the headers of one MLX model's files; real ones take some 10 MB."""
FIRST_BYTES = 256 << 10
"""Bytes of the first read of a weights file: enough for about 2,000 tensors."""
QUERY_LIMIT = 200
"""Maximum characters of a search."""

_EXPAND = ["downloads", "likes", "lastModified", "gated", "tags"]


class HubClient:
    """Client of one Hub with one user's token."""

    def __init__(
        self,
        endpoint: str,
        token: Callable[[], str | None],
        cache: Path,
        timeout_s: float = 10,
        outward: ProxySelector | None = None,
    ) -> None:
        """Create the client; it connects on the first request.

        Args:
            endpoint: Base URL.
            token: Called for every request, so that a login takes effect at once.
            cache: Folder of cached responses.
            timeout_s: Timeout of each phase of a request.
            outward: A shared HTTP client, closed by its owner; None to create one.
        """
        self.endpoint = endpoint.rstrip("/")
        """Base URL, without a slash at the end."""
        self._responses = ResponseCache(cache / "answers", ANSWERS_LIMIT)
        self._headers = ResponseCache(cache / "headers", HEADERS_LIMIT)
        self._remote = RangeReader(self.endpoint, token, timeout_s, outward)
        self._header_slots = asyncio.Semaphore(PARALLEL_HEADERS)

    async def close(self) -> None:
        """Close the connections."""
        await self._remote.close()

    async def search(self, query: str, limit: int = 30) -> SearchResult:
        """Search repositories with models that modeldeck can load, most downloaded first.

        Raises HubUnavailable if the Hub cannot be reached and the query is not cached.
        """
        query = query.strip()
        if len(query) > QUERY_LIMIT:
            raise InvalidRequest(f"A search has at most {QUERY_LIMIT} characters.")
        key = ("search", self.endpoint, query.casefold(), str(limit))
        try:
            found = await together(self._list(query, limit, format) for format in records.FORMATS)
        except HubUnavailable as error:
            kept = await self._cached(key, SearchResult)
            if kept is None:
                raise
            return replace(kept, from_cache=True, error=error.message)
        hits = records.merged([hit for part in found for hit in part])[:limit]
        result = SearchResult(query=query, hits=tuple(hits))
        await self._store(key, result)
        return result

    async def repository(self, repo: str, revision: str | None = None) -> Repository:
        """Return a repository with its variants at a revision (`main` for None).

        Raises NotFound, Gated; HubUnavailable if the Hub cannot be reached and it is not cached.
        """
        check_repo(repo)
        if revision is not None:
            check_revision(revision)
        key = ("repository", self.endpoint, repo.casefold())
        try:
            found = await self._inspect(repo, revision)
        except HubUnavailable:
            kept = await self._cached((*key, revision or "main"), Repository)
            if kept is None:
                raise
            return replace(kept, from_cache=True)
        for name in {revision or "main", found.revision}:
            await self._store((*key, name), found)
        return found

    async def card(self, repo: str, commit: str) -> Card:
        """Return the model card of a repository at a commit, cached once it was read.

        Raises NotFound if there is none, Gated, and HubUnavailable if the Hub cannot be reached and
        the card is not cached.
        """
        check_repo(repo)
        check_revision(commit)
        key = ("card", self.endpoint, repo.casefold(), commit)
        kept = await asyncio.to_thread(self._responses.get, *key)
        data = kept
        if data is None:
            try:
                data = await self._remote.read_path(
                    repo, commit, model_card.FILE, 0, model_card.LIMIT + 1
                )
            except NotFound as error:
                raise NotFound(f"{repo} has no model card.") from error
            await asyncio.to_thread(self._responses.put, data, *key)
        return model_card.read(repo, commit, data, from_cache=kept is not None)

    async def read_header(
        self, repo: str, revision: str, file: RepoFile
    ) -> tuple[GgufHeader, bytes]:
        """Read the header of a GGUF file on the Hub in a few ranges; return it and its bytes.

        Raises Corrupt for an invalid file, and HubUnavailable, Gated or NotFound.
        """
        check_repo(repo)
        check_revision(revision)
        check_blob(file.blob)
        key = (file.blob, str(file.size_bytes))
        kept = await asyncio.to_thread(self._headers.get, *key)
        if (
            kept is not None
            and (header := await asyncio.to_thread(_parse_cached, kept)) is not None
        ):
            return header, kept

        async def fetch(offset: int, length: int) -> bytes:
            return await self._remote.read(repo, revision, file, offset, length)

        async with self._header_slots:
            header, data = await gguf_parser.read_remote(fetch, file.size_bytes)
        await asyncio.to_thread(self._headers.put, data, *key)
        return header, data

    async def _read_folder(
        self, repo: str, revision: str, files: Sequence[RepoFile]
    ) -> mlx_folder.MlxFolder:
        """Read the configuration, and the index or headers, of an MLX model on the Hub.

        The index of split weights has their size; without one, or if it is that of other weights,
        the header of each weights file is read. Raises as `read_header`, and Forbidden for a
        configuration that names code to run.
        """
        check_repo(repo)
        check_revision(revision)
        by_path = {file.path: file for file in files}
        weights = [file for file in files if safetensors.is_weights(file.path)]
        if "config.json" not in by_path or not weights:
            raise Corrupt(f"{repo} holds no MLX model.", "Take another repository.")
        read = partial(self._read_start, repo, revision)
        data = await read(by_path["config.json"], mlx_folder.MAX_CONFIG)
        config = await asyncio.to_thread(mlx_folder.read_config, data)
        if (tokenizer := by_path.get(mlx_folder.TOKENIZER_CONFIG)) is not None:
            data = await read(tokenizer, mlx_folder.MAX_CONFIG)
            await asyncio.to_thread(mlx_folder.refuse_code, data, mlx_folder.TOKENIZER_CONFIG)
        if (index := by_path.get(safetensors.INDEX)) is not None:
            data = await read(index, safetensors.MAX_INDEX)
            parsed = await asyncio.to_thread(safetensors.read_index, data)
            paths = {file.path for file in weights}
            safetensors.check_complete(parsed.files, paths)
            size, total = sum(file.size_bytes for file in weights), parsed.total_bytes
            # A file is larger than its tensors by a small header.
            if parsed.files == paths and total is not None and 0.9 * size <= total <= size:
                return mlx_folder.MlxFolder(
                    config=config, weights_bytes=total, tensors=parsed.tensors, parameters=None
                )
        parts, left = [], FOLDER_LIMIT
        for file in weights:
            async with self._header_slots:
                part, taken = await self._weights(read, file)
            parts.append(part)
            left -= taken
            if left < 0:
                raise Corrupt(
                    f"The headers of {repo} are larger than those of any model.",
                    "Take another repository.",
                )
        return mlx_folder.folder_of(config, parts)

    async def read_folder(
        self, repo: str, revision: str, files: Sequence[RepoFile]
    ) -> mlx_folder.MlxFolder:
        """Read an MLX model as `_read_folder`. Raises Corrupt if mlx-lm cannot load it."""
        folder = await self._read_folder(repo, revision, files)
        if why := mlx_folder.load_error(folder, (file.path for file in files)):
            raise Corrupt(f"{repo}: {why}", "Take another repository, or a GGUF version.")
        return folder

    async def _weights(
        self, read: Callable[[RepoFile, int], Awaitable[bytes]], file: RepoFile
    ) -> tuple[safetensors.TensorSizes, int]:
        """Read the header of a weights file; return it and the number of bytes read."""
        length, taken = FIRST_BYTES, 0
        while True:
            data = await read(file, length)
            taken += len(data)
            found = await asyncio.to_thread(safetensors.read_header, data, file.size_bytes)
            if found is not None:
                return found, taken
            wanted = safetensors.header_end(data)
            if wanted <= length:
                raise Corrupt(f"{file.path} is cut off.", "Take another repository.")
            length = wanted

    async def _read_start(self, repo: str, revision: str, file: RepoFile, length: int) -> bytes:
        """Return the first bytes of a file, cached by its hash."""
        check_blob(file.blob)
        length = min(length, file.size_bytes)
        key = (file.blob, str(file.size_bytes), f"first {length}")
        kept = await asyncio.to_thread(self._headers.get, *key)
        if kept is None or len(kept) != length:
            kept = await self._remote.read(repo, revision, file, 0, length)
            await asyncio.to_thread(self._headers.put, kept, *key)
        return kept

    async def _cached(self, key: tuple[str, ...], kind: type[T]) -> T | None:
        data = await asyncio.to_thread(self._responses.get, *key)
        try:
            return None if data is None else msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError:  # written by another version, or damaged
            return None

    async def _store(self, key: tuple[str, ...], answer: object) -> None:
        await asyncio.to_thread(self._responses.put, msgspec.json.encode(answer), *key)

    async def _list(self, query: str, limit: int, format: Format) -> list[SearchHit]:
        params: dict[str, str | int | list[str]] = {
            "search": query,
            "filter": format,
            "limit": limit,
            "sort": "downloads",
            "expand": _EXPAND,
        }
        data = await self._remote.ask("models", params, None, records.MAX_SEARCH)
        return await asyncio.to_thread(records.hits, self.endpoint, data, limit)

    async def _inspect(self, repo: str, revision: str | None) -> Repository:
        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        path, params = f"models/{repo}{at}", {"blobs": "true"}
        data = await self._remote.ask(path, params, repo, records.MAX_REPOSITORY)
        return await asyncio.to_thread(records.repository, self.endpoint, data)


def _parse_cached(data: bytes) -> GgufHeader | None:
    """Parse a cached header; None if it is damaged, so that it is read again."""
    try:
        return gguf_parser.parse(data)
    except Corrupt:
        return None
