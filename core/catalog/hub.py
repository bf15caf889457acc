"""The Hub: search, repositories, and headers of files that nobody downloaded yet.

Theory of operation. Every good answer is kept on disk; when the Hub cannot be reached, what it said
earlier is given instead, marked as such. A refusal (gated, not found) is an answer too and is never
papered over with an older one.

What comes from the Hub has a bound of bytes, entries and time, and is read in threads; it is
checked where it could do harm (ids, commits, hashes, sizes). huggingface_hub is not used for this:
it reads answers of any size, decides by itself about proxies and certificates, and takes a second
to import.
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
from modeldeck.core.errors import Corrupt, HubUnavailable, InvalidRequest, NotFound
from modeldeck.core.formats import gguf, safetensors
from modeldeck.core.formats.gguf import GgufHeader
from modeldeck.core.formats.hub_names import check_blob, check_repo, check_revision
from modeldeck.core.network.proxy_selector import ProxySelector
from modeldeck.core.schema import Card, Format, RepoFile, Repository, SearchHit, SearchResult

T = TypeVar("T")

ANSWERS_LIMIT = 64 << 20
"""Bytes of answers kept: a few thousand repositories."""
HEADERS_LIMIT = 256 << 20
"""Bytes of headers kept: about fifty models of 5 MB each."""
READ_AT_ONCE = 4
"""Headers of files that are read at once: each may take `gguf.MAX_HEADER` of memory."""
FOLDER_LIMIT = 256 << 20
"""Bytes that are read of the headers of one MLX model's files; real ones take some 10 MB."""
FIRST_BYTES = 256 << 10
"""Read of a file of weights at first: room for the names of about 2,000 tensors."""
QUERY_LIMIT = 200
"""Characters of a search."""

_EXPAND = ["downloads", "likes", "lastModified", "gated", "tags"]


class HubClient:
    """One Hub, asked with one person's token."""

    def __init__(
        self,
        endpoint: str,
        token: Callable[[], str | None],
        cache: Path,
        timeout_s: float = 10,
        outward: ProxySelector | None = None,
    ) -> None:
        """Nothing is asked, opened or imported yet.

        Args:
            endpoint: Base URL.
            token: Called anew for every question, so that a login takes effect at once.
            cache: Folder for what can be asked again.
            timeout_s: For each phase of one question.
            outward: The way out where it is shared; whoever made it closes it.
        """
        self.endpoint = endpoint.rstrip("/")
        """Base URL, without a slash at the end."""
        self._answers = ResponseCache(cache / "answers", ANSWERS_LIMIT)
        self._headers = ResponseCache(cache / "headers", HEADERS_LIMIT)
        self._remote = RangeReader(self.endpoint, token, timeout_s, outward)
        self._reading = asyncio.Semaphore(READ_AT_ONCE)

    async def close(self) -> None:
        """Close the connections."""
        await self._remote.close()

    async def search(self, query: str, limit: int = 30) -> SearchResult:
        """Repositories with models that modeldeck can load, the most downloaded first.

        Raises HubUnavailable when the Hub cannot be asked and never answered this query before.
        """
        query = query.strip()
        if len(query) > QUERY_LIMIT:
            raise InvalidRequest(f"A search has at most {QUERY_LIMIT} characters.")
        key = ("search", self.endpoint, query.casefold(), str(limit))
        try:
            found = await asyncio.gather(
                *(self._list(query, limit, format) for format in records.FORMATS)
            )
        except HubUnavailable as error:
            kept = await self._kept(key, SearchResult)
            if kept is None:
                raise
            return replace(kept, from_cache=True, error=error.message)
        hits = records.merged([hit for part in found for hit in part])[:limit]
        result = SearchResult(query=query, hits=tuple(hits))
        await self._keep(key, result)
        return result

    async def repository(self, repo: str, revision: str | None = None) -> Repository:
        """A repository with its variants, at a revision (`main` if none is named).

        Raises NotFound and Gated; HubUnavailable when the Hub cannot be asked and never told.
        """
        check_repo(repo)
        if revision is not None:
            check_revision(revision)
        key = ("repository", self.endpoint, repo.casefold())
        try:
            found = await self._inspect(repo, revision)
        except HubUnavailable:
            kept = await self._kept((*key, revision or "main"), Repository)
            if kept is None:
                raise
            return replace(kept, from_cache=True)
        for name in {revision or "main", found.revision}:
            await self._keep((*key, name), found)
        return found

    async def card(self, repo: str, commit: str) -> Card:
        """The model card of a repository at a commit, kept on disk once it was read.

        Raises NotFound where there is none, Gated, and HubUnavailable when the Hub cannot be asked
        and never told.
        """
        check_repo(repo)
        check_revision(commit)
        key = ("card", self.endpoint, repo.casefold(), commit)
        kept = await asyncio.to_thread(self._answers.get, *key)
        data = kept
        if data is None:
            try:
                data = await self._remote.read_path(
                    repo, commit, model_card.FILE, 0, model_card.LIMIT + 1
                )
            except NotFound as error:
                raise NotFound(f"{repo} has no model card.") from error
            await asyncio.to_thread(self._answers.put, data, *key)
        return model_card.read(repo, commit, data, from_cache=kept is not None)

    async def read_header(
        self, repo: str, revision: str, file: RepoFile
    ) -> tuple[GgufHeader, bytes]:
        """The header of a GGUF file on the Hub, and its bytes; a few ranges are fetched at most.

        Raises Corrupt for a file that is not sound, and HubUnavailable, Gated or NotFound.
        """
        check_repo(repo)
        check_revision(revision)
        check_blob(file.blob)
        key = (file.blob, str(file.size_bytes))
        kept = await asyncio.to_thread(self._headers.get, *key)
        if kept is not None and (header := await asyncio.to_thread(_sound, kept)) is not None:
            return header, kept

        async def fetch(offset: int, length: int) -> bytes:
            return await self._remote.read(repo, revision, file, offset, length)

        async with self._reading:
            header, data = await gguf.read_remote(fetch, file.size_bytes)
        await asyncio.to_thread(self._headers.put, data, *key)
        return header, data

    async def _read_folder(
        self, repo: str, revision: str, files: Sequence[RepoFile]
    ) -> safetensors.MlxFolder:
        """What an MLX model on the Hub says of itself: configuration, and headers or index.

        The index of split weights tells their size; where there is none, or it is that of other
        weights, the header of every file of weights is read. Raises as `read_header`, and Forbidden
        for a configuration that names code to run.
        """
        check_repo(repo)
        check_revision(revision)
        by_path = {file.path: file for file in files}
        weights = [file for file in files if safetensors.is_weights(file.path)]
        if "config.json" not in by_path or not weights:
            raise Corrupt(f"{repo} holds no MLX model.", "Take another repository.")
        read = partial(self._read_start, repo, revision)
        data = await read(by_path["config.json"], safetensors.MAX_CONFIG)
        config = await asyncio.to_thread(safetensors.read_config, data)
        if (tokenizer := by_path.get(safetensors.TOKENIZER_CONFIG)) is not None:
            data = await read(tokenizer, safetensors.MAX_CONFIG)
            await asyncio.to_thread(safetensors.refuse_code, data, safetensors.TOKENIZER_CONFIG)
        if (index := by_path.get(safetensors.INDEX)) is not None:
            data = await read(index, safetensors.MAX_INDEX)
            told = await asyncio.to_thread(safetensors.read_index, data)
            paths = {file.path for file in weights}
            safetensors.check_complete(told.files, paths)
            size, total = sum(file.size_bytes for file in weights), told.total_bytes
            # The files are a header larger than their tensors, and it is small.
            if told.files == paths and total is not None and 0.9 * size <= total <= size:
                return safetensors.MlxFolder(
                    config=config, weights_bytes=total, tensors=told.tensors, parameters=None
                )
        parts, left = [], FOLDER_LIMIT
        for file in weights:
            async with self._reading:
                part, taken = await self._weights(read, file)
            parts.append(part)
            left -= taken
            if left < 0:
                raise Corrupt(
                    f"The headers of {repo} are larger than those of any model.",
                    "Take another repository.",
                )
        return safetensors.folder_of(config, parts)

    async def read_folder(
        self, repo: str, revision: str, files: Sequence[RepoFile]
    ) -> safetensors.MlxFolder:
        """As `_read_folder`, checked as its engine will: Corrupt too where it would not load."""
        folder = await self._read_folder(repo, revision, files)
        if why := safetensors.fault(folder, (file.path for file in files)):
            raise Corrupt(f"{repo}: {why}", "Take another repository, or a GGUF version.")
        return folder

    async def _weights(
        self, read: Callable[[RepoFile, int], Awaitable[bytes]], file: RepoFile
    ) -> tuple[safetensors.TensorSizes, int]:
        """What a file's header says, and how many bytes were read for it."""
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
        """The first bytes of a file, kept on disk by its hash."""
        check_blob(file.blob)
        length = min(length, file.size_bytes)
        key = (file.blob, str(file.size_bytes), f"first {length}")
        kept = await asyncio.to_thread(self._headers.get, *key)
        if kept is None or len(kept) != length:
            kept = await self._remote.read(repo, revision, file, 0, length)
            await asyncio.to_thread(self._headers.put, kept, *key)
        return kept

    async def _kept(self, key: tuple[str, ...], kind: type[T]) -> T | None:
        data = await asyncio.to_thread(self._answers.get, *key)
        try:
            return None if data is None else msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError:  # written by another version, or damaged: as good as none
            return None

    async def _keep(self, key: tuple[str, ...], answer: object) -> None:
        await asyncio.to_thread(self._answers.put, msgspec.json.encode(answer), *key)

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


def _sound(data: bytes) -> GgufHeader | None:
    """The header of kept bytes; None for what does not read as one, and so is fetched anew."""
    try:
        return gguf.parse(data)
    except Corrupt:
        return None
