"""The typed client of the API, for every front end: one method for each request.

It speaks HTTP over the core's Unix socket or to a URL, and reads the feed over a WebSocket. Errors
are raised as the classes of `modeldeck.core.errors` that the core raised.
`modeldeck.core.client.daemon` finds and starts cores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from modeldeck.core import schema
from modeldeck.core.client import chat
from modeldeck.core.client.connection import (
    CoreConnection,
    member,
    query_string,
    read,
    record,
    segment,
)
from modeldeck.core.client.transport import CONNECT_S

if TYPE_CHECKING:
    from modeldeck.core.client.feed import FeedReader
    from modeldeck.core.schema.state import State


class Client:
    """One front end's connection to one core. Use as an async context manager.

    Every method may raise CoreUnreachable, and any error that the core answers.
    """

    def __init__(
        self, *, socket: Path | None = None, url: str | None = None, **options: Any
    ) -> None:
        """Connect to the Unix socket where one is given, else to `url`.

        `options` are those of `modeldeck.core.client.connection.CoreConnection`: `where`, `token`,
        `ca_file`, `ping_s`.
        """
        self._connection = CoreConnection(socket, url, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Open streams must be left first."""
        await self._connection.close()

    @cached_property
    def feed(self) -> FeedReader:
        """The core's State as it changes."""
        from modeldeck.core.client.feed import FeedReader

        return FeedReader(self._connection)

    # Looking

    async def health(self) -> str:
        """Return the text of `/.well-known/health`: `ok:` and the id of the installation."""
        answer = await self._connection.answer("GET", "/.well-known/health", timeout_s=CONNECT_S)
        return answer.decode(errors="replace")

    @property
    def latency_s(self) -> float | None:
        """The round trip of the feed's last ping; None before it, and without a feed."""
        return self._connection.latency_s

    async def summary(self) -> schema.Summary:
        """Return the machine in a few numbers, and its protocol version."""
        return record(schema.Summary, await self._connection.json("GET", "/deck/summary"))

    async def state(self) -> State:
        """Return the whole State, with memory and disk sampled now."""
        from modeldeck.core.schema.state import state_from_wire

        return read(state_from_wire, await self._connection.json("GET", "/deck/state"))

    async def model(self, ref: str) -> schema.Model:
        """The model with this id, unique name or short name. Raises NotFound or Ambiguous."""
        return record(
            schema.Model, await self._connection.json("GET", f"/deck/models/{segment(ref)}")
        )

    async def search(self, query: str, limit: int | None = None) -> schema.SearchResult:
        """Search the Hub; returns cached results when it cannot be reached."""
        path = "/deck/search" + query_string(query=query, limit=limit)
        return record(schema.SearchResult, await self._connection.json("GET", path))

    async def repository(self, repo: str, revision: str | None = None) -> schema.Repository:
        """Return the variants of a repository. Raises NotFound, Gated, HubUnavailable."""
        path = f"/deck/repositories/{segment(repo)}" + query_string(revision=revision)
        return record(schema.Repository, await self._connection.json("GET", path))

    async def card(self, repo: str, revision: str | None = None) -> schema.Card:
        """Return the model card of a repository. Raises NotFound, Gated, HubUnavailable."""
        path = f"/deck/repositories/{segment(repo)}/card" + query_string(revision=revision)
        return record(schema.Card, await self._connection.json("GET", path))

    async def fit(self, ref: str, context_length: int | None = None) -> schema.Fit:
        """Return whether a model would fit the memory that is free now."""
        path = f"/deck/models/{segment(ref)}/fit" + query_string(context_length=context_length)
        return record(schema.Fit, await self._connection.json("GET", path, timeout_s=None))

    async def fits(self, context_length: int | None = None) -> dict[str, schema.Fit]:
        """Whether each listed model would fit, by id; some are estimates: the Hub is not asked."""
        path = "/deck/fits" + query_string(context_length=context_length)
        answer = await self._connection.json("GET", path, timeout_s=None)
        fits = record(dict[str, Any], member(answer, "fits"))
        return {key: record(schema.Fit, fit) for key, fit in fits.items()}

    async def log(
        self, after: int = 0, limit: int = 500, source: str | None = None
    ) -> list[schema.LogLine]:
        """Lines of the log with a number above `after`, oldest first."""
        path = "/deck/log" + query_string(after=after, limit=limit, source=source)
        return record(
            list[schema.LogLine], _list(await self._connection.json("GET", path), "lines")
        )

    async def audit_trail(self, limit: int = 200) -> list[schema.AuditEntry]:
        """The newest entries of the audit trail, newest first."""
        answer = await self._connection.json("GET", "/deck/audit" + query_string(limit=limit))
        return record(list[schema.AuditEntry], _list(answer, "entries"))

    # Models and downloads

    async def create_model(self, seed: schema.ModelSeed) -> schema.Model:
        """Add a custom model."""
        return record(
            schema.Model, await self._connection.json("POST", "/deck/models", _given(seed))
        )

    async def update_model(self, ref: str, changes: Mapping[str, Any]) -> schema.Model:
        """Change fields of a model; answers the new record."""
        path = f"/deck/models/{segment(ref)}"
        return record(schema.Model, await self._connection.json("PATCH", path, dict(changes)))

    async def delete_model(self, ref: str) -> None:
        """Remove a custom model from the list; its files stay."""
        await self._connection.answer("DELETE", f"/deck/models/{segment(ref)}")

    async def download(
        self, ref: str, *, force: bool = False
    ) -> tuple[schema.Model, schema.Download | None]:
        """Ask for a model's files: the model, and the accepted job; None when they are here.

        A name on the Hub that is not in the list yet is added to it. A model that could not be
        loaded there is refused unless `force`.
        """
        path = f"/deck/models/{segment(ref)}/download"
        answer = await self._connection.json("POST", path, {"force": force}, timeout_s=None)
        job = member(answer, "download")
        return record(schema.Model, member(answer, "model")), record(
            schema.Download, job
        ) if job else None

    async def manifest(self, ref: str) -> schema.Manifest:
        """Return the files of a downloaded model, to copy it. Raises NotDownloaded."""
        path = f"/deck/models/{segment(ref)}/manifest"
        return record(schema.Manifest, await self._connection.json("GET", path))

    async def take(
        self, manifest: schema.Manifest, peer: str
    ) -> tuple[schema.Model, schema.Download | None]:
        """Have the core copy a model from the one that its socket `peer` leads to.

        The accepted job; None when the model is there already.
        """
        body = {"manifest": msgspec.to_builtins(manifest), "peer": peer}
        answer = await self._connection.json("POST", "/deck/take", body, timeout_s=None)
        job = member(answer, "download")
        return record(schema.Model, member(answer, "model")), record(
            schema.Download, job
        ) if job else None

    async def cancel_download(self, download_id: str, *, discard: bool = False) -> schema.Download:
        """End a job at once; its partial file is kept for another time unless `discard`."""
        path = f"/deck/downloads/{segment(download_id)}/cancel"
        return record(
            schema.Download, await self._connection.json("POST", path, {"discard": discard})
        )

    async def pause_download(self, download_id: str) -> schema.Download:
        """Pause a job."""
        path = f"/deck/downloads/{segment(download_id)}/pause"
        return record(schema.Download, await self._connection.json("POST", path))

    async def resume_download(self, download_id: str) -> schema.Download:
        """Let a held job go on, or try a failed one again."""
        path = f"/deck/downloads/{segment(download_id)}/resume"
        return record(schema.Download, await self._connection.json("POST", path))

    async def remove_download(self, download_id: str) -> None:
        """Forget a job that has ended."""
        await self._connection.answer("DELETE", f"/deck/downloads/{segment(download_id)}")

    async def move_download(self, download_id: str, to: schema.QueueMove) -> schema.Download:
        """Let a job come sooner or later; it runs when it is among the first."""
        path = f"/deck/downloads/{segment(download_id)}/move"
        return record(schema.Download, await self._connection.json("POST", path, {"to": to}))

    async def limit_download(self, download_id: str, bytes_per_s: int | None) -> schema.Download:
        """Limit the rate of one job; None removes its own limit."""
        path = f"/deck/downloads/{segment(download_id)}/limit"
        return record(
            schema.Download, await self._connection.json("POST", path, {"bytes_per_s": bytes_per_s})
        )

    async def change_settings(self, **changes: Any) -> schema.Settings:
        """Change settings by name; the core remembers them.

        There are `jobs_at_once`, `rate_limit_bytes_per_s` (None for no limit), `schedule` (all of
        it), `give_way` and `memory_budget_bytes` (None for what the machine has).
        """
        return record(
            schema.Settings, await self._connection.json("PATCH", "/deck/settings", changes)
        )

    async def cache(self) -> schema.CacheListing:
        """Return the contents of the cache: sizes, shared files, last use."""
        answer = await self._connection.json("GET", "/deck/cache", timeout_s=None)
        return record(schema.CacheListing, answer)

    async def verify(self, what: schema.CacheSelection) -> schema.Verification:
        """Start to check files in the cache, all of them where none are named.

        Its progress is in `State.verifications`.
        """
        answer = await self._connection.json(
            "POST", "/deck/cache/verify", msgspec.to_builtins(what), timeout_s=None
        )
        return record(schema.Verification, answer)

    async def cancel_verification(self, key: str) -> schema.Verification:
        """Cancel a verification."""
        path = f"/deck/cache/verify/{segment(key)}/cancel"
        return record(schema.Verification, await self._connection.json("POST", path))

    async def plan_deletion(
        self, what: Sequence[str] | schema.CacheSelection
    ) -> schema.DeletionPlan:
        """Return what a deletion would remove; names alone are models."""
        answer = await self._connection.json(
            "POST", "/deck/cache/plan", _selected(what), timeout_s=None
        )
        return record(schema.DeletionPlan, answer)

    async def delete_cached(
        self, what: Sequence[str] | schema.CacheSelection, *, force: bool = False
    ) -> schema.DeletionReceipt:
        """Delete this from the cache; names alone are models.

        Raises InUse when a file is loaded or being downloaded, unless `force`.
        """
        body = _selected(what) | {"force": force}
        answer = await self._connection.json("POST", "/deck/cache/delete", body, timeout_s=None)
        return record(schema.DeletionReceipt, answer)

    async def undoable(self) -> list[schema.Undoable]:
        """Return the actions that can be undone, newest first."""
        answer = await self._connection.json("GET", "/deck/undo")
        return record(list[schema.Undoable], _list(answer, "actions"))

    async def undo(self, key: str | None = None) -> schema.Undoable:
        """Undo an action, the newest without a key. Raises NotFound, Conflict."""
        answer = await self._connection.json("POST", "/deck/undo", {"id": key})
        return record(schema.Undoable, answer)

    # Tokens: over the Unix socket only

    async def create_token(
        self,
        name: str,
        scopes: Sequence[schema.Scope] = (),
        expires_s: float | None = None,
        priority: schema.Priority = "interactive",
    ) -> schema.NewToken:
        """Make a token; without scopes it is for `read` and `infer`. The secret is told this once.

        Raises InvalidRequest, or Conflict for a name that is taken.
        """
        body = {"name": name, "scopes": list(scopes), "expires_s": expires_s}
        body |= {"priority": priority}
        return record(schema.NewToken, await self._connection.json("POST", "/deck/tokens", body))

    async def tokens(self) -> list[schema.Token]:
        """All tokens, oldest first, without their secrets."""
        answer = await self._connection.json("GET", "/deck/tokens")
        return record(list[schema.Token], _list(answer, "tokens"))

    async def revoke_token(self, ref: str) -> schema.Token:
        """Revoke the token with this name or id, at once. Raises NotFound."""
        path = f"/deck/tokens/{segment(ref)}"
        return record(schema.Token, await self._connection.json("DELETE", path))

    # Instances

    async def load(self, ref: str, options: schema.LoadOptions, **how: bool) -> schema.Instance:
        """Ask for a model to be loaded; answers once that is accepted.

        Options that are not said are as the last time, else as the core's configuration has them.

        Args:
            ref: Which: id, unique name or short name.
            options: How.
            how: `force` loads it even where it does not fit, `make_room` unloads idle models for
                it or does not, `fresh` forgets the last time.
        """
        return await self._load(ref, options, {**how, "wait": False})

    async def loaded(self, ref: str, options: schema.LoadOptions, **how: bool) -> schema.Instance:
        """As `load`, but answers when the model is ready. Raises what went wrong."""
        return await self._load(ref, options, {**how, "wait": True})

    async def _load(
        self, ref: str, options: schema.LoadOptions, how: dict[str, bool]
    ) -> schema.Instance:
        path = f"/deck/models/{segment(ref)}/load"
        body = _given(options) | how
        return record(
            schema.Instance, await self._connection.json("POST", path, body, timeout_s=None)
        )

    async def plan_load(
        self, ref: str, options: schema.LoadOptions, **how: bool
    ) -> schema.LoadPlan:
        """What `load` would do now: options with their origins, forecast, what would go first."""
        path = f"/deck/models/{segment(ref)}/load/plan"
        body = _given(options) | how
        return record(
            schema.LoadPlan, await self._connection.json("POST", path, body, timeout_s=None)
        )

    async def loads(self, limit: int = 200) -> list[schema.LoadRecord]:
        """What earlier loads were forecast to take and what they took, newest first."""
        answer = await self._connection.json("GET", "/deck/loads" + query_string(limit=limit))
        return record(list[schema.LoadRecord], _list(answer, "loads"))

    async def change_instance(self, instance_id: str, **changes: Any) -> schema.Instance:
        """Change `pinned` or `idle_ttl_s` (0 for never) of a model that is loaded."""
        path = f"/deck/instances/{segment(instance_id)}"
        return record(schema.Instance, await self._connection.json("PATCH", path, changes))

    async def unload(self, instance_id: str) -> schema.UnloadReceipt:
        """Unload one model, or cancel its load; returns the memory that was freed."""
        path = f"/deck/instances/{segment(instance_id)}/unload"
        return record(
            schema.UnloadReceipt, await self._connection.json("POST", path, timeout_s=None)
        )

    async def unload_all(self) -> list[schema.UnloadReceipt]:
        """Unload everything."""
        answer = await self._connection.json("POST", "/deck/instances/unload", timeout_s=None)
        return record(list[schema.UnloadReceipt], _list(answer, "receipts"))

    # Requests to models

    @property
    def client_id(self) -> str:
        """What `RequestInfo.client` has for requests of this client."""
        return self._connection.client_id

    async def requests(self) -> list[schema.RequestInfo]:
        """Requests to models: those that run or wait, and the last that ended."""
        answer = await self._connection.json("GET", "/deck/requests")
        return record(list[schema.RequestInfo], _list(answer, "requests"))

    async def cancel_request(self, request_id: str) -> schema.RequestInfo:
        """Cancel a request to a model. Raises NotFound, and Conflict for one that has ended."""
        path = f"/deck/requests/{segment(request_id)}/cancel"
        return record(schema.RequestInfo, await self._connection.json("POST", path))

    def generate(
        self, ref: str, request: schema.GenerateRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[schema.Chunk]]:
        """A model's answer to the request's messages, piece by piece, the counts in the last one.

        A downloaded model that is not loaded is loaded first. Leaving the block ends the answer.
        """
        return self._generate(ref, request)

    @asynccontextmanager
    async def _generate(
        self, ref: str, request: schema.GenerateRequest
    ) -> AsyncIterator[AsyncIterator[schema.Chunk]]:
        path, body = chat.request_for(ref, request)
        async with (
            self._connection.events(path, body) as events,
            aclosing(chat.chunks(events)) as chunks,
        ):
            yield chunks

    async def embed(self, ref: str, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """One vector of length 1 a text; the model, one for embeddings, is loaded if need be."""
        body = {"model": ref, "input": list(texts)}
        answer = await self._connection.json("POST", "/v1/embeddings", body, timeout_s=None)
        entries = record(list[dict[str, Any]], _list(answer, "data"))
        return [record(tuple[float, ...], member(entry, "embedding")) for entry in entries]

    # The core itself

    async def stop(self) -> None:
        """Ask the core to end; it answers first."""
        await self._connection.json("POST", "/deck/stop")


def _given(body: Any) -> dict[str, Any]:
    """The fields of a record that are set: None means "not given", in the API as well."""
    fields = msgspec.to_builtins(body)
    return {k: v for k, v in fields.items() if v is not None and v != []}


def _selected(what: Sequence[str] | schema.CacheSelection) -> dict[str, Any]:
    chosen = (
        what
        if isinstance(what, schema.CacheSelection)
        else schema.CacheSelection(models=tuple(what))
    )
    body: dict[str, Any] = msgspec.to_builtins(chosen)
    return body


def _list(answer: Any, name: str) -> Any:
    """The list in an answer that is one, or that holds one under a name."""
    return answer.get(name, []) if isinstance(answer, dict) else answer
