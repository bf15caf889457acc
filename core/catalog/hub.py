"""The Hub: search, repositories, and headers of files that nobody downloaded yet.

Theory of operation. Metadata is asked through huggingface_hub, which blocks and is slow to import,
so it lives in threads of its own and is imported by the first question. Every good answer is kept
on disk; when the Hub cannot be reached, what it said earlier is given instead, marked as such. A
refusal (gated, not found) is an answer too and is never papered over with an older one.

What comes from the Hub is checked where it could do harm (ids, commits, hashes, sizes) and is
otherwise left as it came.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from core import safetensors
from core.catalog import card, gguf
from core.catalog.answers import Answers
from core.catalog.gguf import Header
from core.catalog.remote import Remote, refusal, unreachable
from core.catalog.variants import variants
from core.detached import Detached
from core.errors import Corrupt, HubUnavailable, InvalidRequest, NotFound
from core.garbage import put_aside
from core.names import check_blob, check_repo, check_revision, is_commit
from core.schema import Card, Format, RepoFile, Repository, SearchHit, SearchResult

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

T = TypeVar("T")

ANSWERS_LIMIT = 64 << 20
"""Bytes of answers kept: a few thousand repositories."""
HEADERS_LIMIT = 256 << 20
"""Bytes of headers kept: about fifty models of 5 MB each."""
THREADS = 4
"""Questions at once; a search takes two."""
FIRST_BYTES = 256 << 10
"""Read of a file of weights at first: room for the names of about 2,000 tensors."""
QUERY_LIMIT = 200
"""Characters of a search."""

_FORMATS: tuple[Format, ...] = ("gguf", "mlx")
_EXPAND = ["downloads", "likes", "lastModified", "gated", "tags"]
_PARAMETERS = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([BM])(?![A-Za-z0-9])", re.IGNORECASE)


class Hub:
    """One Hub, asked with one person's token."""

    def __init__(
        self,
        endpoint: str,
        token: Callable[[], str | None],
        cache: Path,
        timeout_s: float = 10,
    ) -> None:
        """Nothing is asked, opened or imported yet.

        Args:
            endpoint: Base URL.
            token: Called anew for every question, so that a login takes effect at once.
            cache: Folder for what can be asked again.
            timeout_s: For each phase of one question.
        """
        self.endpoint = endpoint.rstrip("/")
        """Base URL, without a slash at the end."""
        self._token = token
        self._imported = False
        self._timeout_s = timeout_s
        self._answers = Answers(cache / "answers", ANSWERS_LIMIT)
        self._headers = Answers(cache / "headers", HEADERS_LIMIT)
        self._remote = Remote(self.endpoint, token, timeout_s)
        self._threads = Detached(THREADS, "hub")

    async def close(self) -> None:
        """Close connections; a question that is still open ends by its timeout, or with us."""
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
                *(self._thread(self._list, query, limit, tag) for tag in _FORMATS)
            )
        except HubUnavailable as error:
            kept = await self._kept(key, SearchResult)
            if kept is None:
                raise
            return replace(kept, from_cache=True, error=error.message)
        hits = _merged([hit for part in found for hit in part])[:limit]
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
            found = await self._thread(self._inspect, repo, revision)
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
                data = await self._remote.read_path(repo, commit, card.FILE, 0, card.LIMIT + 1)
            except NotFound as error:
                raise NotFound(f"{repo} has no model card.") from error
            await asyncio.to_thread(self._answers.put, data, *key)
        return card.read(repo, commit, data, from_cache=kept is not None)

    async def read_header(self, repo: str, revision: str, file: RepoFile) -> tuple[Header, bytes]:
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

        header, data = await gguf.read_remote(fetch, file.size_bytes)
        await asyncio.to_thread(self._headers.put, data, *key)
        return header, data

    async def _read_folder(
        self, repo: str, revision: str, files: Sequence[RepoFile]
    ) -> safetensors.Folder:
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
        config = safetensors.read_config(data)
        if (tokenizer := by_path.get(safetensors.TOKENIZER_CONFIG)) is not None:
            data = await read(tokenizer, safetensors.MAX_CONFIG)
            safetensors.refuse_code(data, safetensors.TOKENIZER_CONFIG)
        if (index := by_path.get(safetensors.INDEX)) is not None:
            told = safetensors.read_index(await read(index, safetensors.MAX_INDEX))
            paths = {file.path for file in weights}
            safetensors.check_complete(told.files, paths)
            size, total = sum(file.size_bytes for file in weights), told.total_bytes
            # The files are a header larger than their tensors, and it is small.
            if told.files == paths and total is not None and 0.9 * size <= total <= size:
                return safetensors.Folder(
                    config=config, weights_bytes=total, tensors=told.tensors, parameters=None
                )
        return safetensors.folder_of(config, [await self._weights(read, file) for file in weights])

    async def read_folder(
        self, repo: str, revision: str, files: Sequence[RepoFile]
    ) -> safetensors.Folder:
        """As `_read_folder`, checked as its engine will: Corrupt too where it would not load."""
        folder = await self._read_folder(repo, revision, files)
        if why := safetensors.fault(folder, (file.path for file in files)):
            raise Corrupt(f"{repo}: {why}", "Take another repository, or a GGUF version.")
        return folder

    async def _weights(
        self, read: Callable[[RepoFile, int], Awaitable[bytes]], file: RepoFile
    ) -> safetensors.Weights:
        length = FIRST_BYTES
        while True:
            data = await read(file, length)
            if (found := safetensors.read_header(data, file.size_bytes)) is not None:
                return found
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

    async def _thread(self, ask: Callable[..., T], *args: object) -> T:
        return await self._threads.run(lambda: self._mapped(ask, *args))

    def _mapped(self, ask: Callable[..., T], *args: object) -> T:
        """Ask, and turn what huggingface_hub raises into our errors. Runs in a thread."""
        from httpx2 import HTTPError  # the client inside huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            return ask(*args)
        except HfHubHTTPError as error:
            status = error.response.status_code
            code = error.response.headers.get("X-Error-Code")
            raise refusal(
                self.endpoint, str(args[0]), status, code, detail=error.server_message or ""
            ) from error
        except OfflineModeIsEnabled as error:
            raise HubUnavailable(
                "The Hub is not asked: HF_HUB_OFFLINE is set.", "Unset it to search and download."
            ) from error
        except (HTTPError, OSError) as error:
            raise unreachable(self.endpoint, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise HubUnavailable(
                f"{self.endpoint} did not answer as a Hub does: {error!r}.",
                "Check `hub.endpoint`.",
            ) from error

    def _get(self, path: str, params: Mapping[str, str | int | list[str]]) -> object:
        """One question to the Hub's API. Runs in a thread.

        `HfApi.list_models` waits without end and tries five times, so that a person without network
        would wait half a minute; so the request is made here, with huggingface_hub's own session.
        """
        from huggingface_hub import get_session

        # Documented as public, but not re-exported in the form that type checkers read.
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
        )

        headers = build_hf_headers(token=self._token() or False)
        url = f"{self.endpoint}/api/{path}"
        response = get_session().get(url, params=params, headers=headers, timeout=self._timeout_s)
        hf_raise_for_status(response)
        return response.json()

    def _list(self, query: str, limit: int, tag: Format) -> list[SearchHit]:
        answer = self._get(
            "models",
            {
                "search": query,
                "filter": tag,
                "limit": limit,
                "sort": "downloads",
                "expand": _EXPAND,
            },
        )
        found = msgspec.convert(answer, list[dict[str, object]])
        return list(filter(None, (_hit(_info(item)) for item in found)))

    def _inspect(self, repo: str, revision: str | None) -> Repository:
        from huggingface_hub import HfApi

        if not self._imported:
            self._imported = True
            put_aside()
        info = HfApi(self.endpoint, token=self._token() or False).model_info(
            repo, revision=revision, files_metadata=True, timeout=self._timeout_s
        )
        if not is_commit(info.sha or ""):
            raise HubUnavailable(f"{self.endpoint} did not say which commit {repo} is at.")
        files = [file for file in map(_file, info.siblings or ()) if file is not None]
        tags = info.tags or []
        mlx = True if "mlx" in tags else None
        return Repository(
            repo=check_repo(info.id),
            revision=str(info.sha),
            license=_license(info),
            gated=bool(info.gated),
            downloads=info.downloads,
            likes=info.likes,
            last_modified=_iso(info.last_modified),
            tags=tuple(tags),
            variants=variants(info.id, files, mlx=mlx),
        )


def _sound(data: bytes) -> Header | None:
    """The header of kept bytes; None for what does not read as one, and so is fetched anew."""
    try:
        return gguf.parse(data)
    except Corrupt:
        return None


def _file(sibling: RepoSibling) -> RepoFile | None:
    """A file of a repository; None where the Hub did not tell what is needed to fetch it."""
    blob = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    size = sibling.lfs.size if sibling.lfs else sibling.size
    if blob is None or size is None or size < 0:
        return None
    try:
        check_blob(blob)
    except InvalidRequest:
        return None
    return RepoFile(path=sibling.rfilename, size_bytes=size, blob=blob, lfs=sibling.lfs is not None)


def _info(item: dict[str, object]) -> ModelInfo:
    from huggingface_hub.hf_api import ModelInfo

    make: Callable[..., ModelInfo] = ModelInfo  # its constructor has no annotations
    return make(**item)


def _hit(info: ModelInfo) -> SearchHit | None:
    try:
        check_repo(info.id)
    except InvalidRequest:
        return None
    return SearchHit(
        repo=info.id,
        downloads=info.downloads,
        likes=info.likes,
        last_modified=_iso(info.last_modified),
        gated=bool(info.gated),
        license=_license(info),
        formats=tuple(name for name in _FORMATS if name in (info.tags or ())),
        parameters=parameters(info.id),
    )


def _license(info: ModelInfo) -> str | None:
    named = info.card_data.get("license") if info.card_data else None
    if isinstance(named, str):
        return named
    tags = (tag.partition(":") for tag in info.tags or ())
    return next((value for name, _, value in tags if name == "license"), None)


def _iso(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _merged(hits: Iterable[SearchHit]) -> list[SearchHit]:
    """Each repository once, with the formats of all its hits, the most downloaded first."""
    found: dict[str, SearchHit] = {}
    for hit in hits:
        other = found.get(hit.repo, hit)
        formats = tuple(name for name in _FORMATS if name in {*hit.formats, *other.formats})
        found[hit.repo] = replace(hit, formats=formats)
    return sorted(found.values(), key=lambda hit: (-(hit.downloads or 0), hit.repo))


def parameters(repo: str) -> float | None:
    """Billions of parameters, where the repository's name tells; the first number that it has."""
    found = _PARAMETERS.search(repo.rsplit("/", 1)[-1].replace("_", "-"))
    if found is None:
        return None
    count = float(found[1])
    return count / 1000 if found[2].upper() == "M" else count
