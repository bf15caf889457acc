"""The typed client of the API, for every front end: one method for each request.

It speaks HTTP over the core's Unix socket or to a URL, and reads the feed over a WebSocket. Errors
are raised as the classes of `modeldeck.core.errors` that the core raised.
`modeldeck.core.client.daemon` finds and starts cores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from modeldeck.core import schema
from modeldeck.core.client import chat
from modeldeck.core.client.answers import items, member, read, record
from modeldeck.core.client.connection import CoreConnection, native_path
from modeldeck.core.client.transport import CONNECT_S
from modeldeck.core.concurrency import in_thread

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
        self._core = CoreConnection(socket, url, **options)

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
        await self._core.close()

    @cached_property
    def feed(self) -> FeedReader:
        """The core's State as it changes."""
        from modeldeck.core.client.feed import FeedReader

        return FeedReader(self._core)

    # Looking

    async def health(self) -> str:
        """Return the text of `/.well-known/health`: `ok:` and the id of the installation."""
        answer = await self._core.answer("GET", "/.well-known/health", timeout_s=CONNECT_S)
        return answer.decode(errors="replace")

    @property
    def latency_s(self) -> float | None:
        """The round trip of the feed's last ping; None before it, and without a feed."""
        return self._core.latency_s

    async def summary(self) -> schema.Summary:
        """Return the machine in a few numbers, and its protocol version."""
        return await self._core.get(schema.Summary, "summary")

    async def state(self) -> State:
        """Return the whole State, with memory and disk sampled now."""
        from modeldeck.core.schema.state import state_from_wire

        return read(state_from_wire, await self._core.json("GET", "/deck/state"))

    async def model(self, ref: str) -> schema.Model:
        """The model with this id, unique name or short name. Raises NotFound or Ambiguous."""
        return await self._core.get(schema.Model, "models", ref)

    async def search(self, query: str, limit: int | None = None) -> schema.SearchResult:
        """Search the Hub; returns cached results when it cannot be reached."""
        return await self._core.get(schema.SearchResult, "search", query=query, limit=limit)

    async def repository(self, repo: str, revision: str | None = None) -> schema.Repository:
        """Return the variants of a repository. Raises NotFound, Gated, HubUnavailable."""
        return await self._core.get(schema.Repository, "repositories", repo, revision=revision)

    async def card(self, repo: str, revision: str | None = None) -> schema.Card:
        """Return the model card of a repository. Raises NotFound, Gated, HubUnavailable."""
        return await self._core.get(schema.Card, "repositories", repo, "card", revision=revision)

    async def fit(self, ref: str, context_length: int | None = None) -> schema.Fit:
        """Return whether a model would fit the memory that is free now."""
        return await self._core.get(
            schema.Fit, "models", ref, "fit", timeout_s=None, context_length=context_length
        )

    async def fits(self, context_length: int | None = None) -> dict[str, schema.Fit]:
        """Whether each listed model would fit, by id; some are estimates: the Hub is not asked."""
        answer = await self._core.get(
            dict[str, Any], "fits", timeout_s=None, context_length=context_length
        )
        return record(dict[str, schema.Fit], member(answer, "fits"))

    async def log(
        self, after: int = 0, limit: int = 500, source: str | None = None
    ) -> list[schema.LogLine]:
        """Lines of the log with a number above `after`, oldest first."""
        return await self._core.get_list(
            schema.LogLine, "lines", "log", after=after, limit=limit, source=source
        )

    async def audit_trail(self, limit: int = 200) -> list[schema.AuditEntry]:
        """The newest entries of the audit trail, newest first."""
        return await self._core.get_list(schema.AuditEntry, "entries", "audit", limit=limit)

    # Models and downloads

    async def create_model(self, seed: schema.ModelSeed) -> schema.Model:
        """Add a custom model."""
        return await self._core.post(schema.Model, "models", **_given(seed))

    async def update_model(self, ref: str, changes: Mapping[str, Any]) -> schema.Model:
        """Change fields of a model; answers the new record."""
        return await self._core.ask(schema.Model, "PATCH", "models", ref, body=dict(changes))

    async def delete_model(self, ref: str) -> None:
        """Remove a custom model from the list; its files stay."""
        await self._core.answer("DELETE", native_path("models", ref))

    async def download(
        self, ref: str, *, force: bool = False
    ) -> tuple[schema.Model, schema.Download | None]:
        """Ask for a model's files: the model, and the accepted job; None when they are here.

        A name on the Hub that is not in the list yet is added to it. A model that could not be
        loaded there is refused unless `force`.
        """
        return await self._accepted("models", ref, "download", force=force)

    async def check_updates(self) -> schema.UpdateCheck:
        """Have the Hub asked for newer files of the models there. Raises HubUnavailable.

        `Model.update_available` has them; `download` fetches them.
        """
        return await self._core.post(schema.UpdateCheck, "check-updates", timeout_s=None)

    async def manifest(self, ref: str) -> schema.Manifest:
        """Return the files of a downloaded model, to copy it. Raises NotDownloaded."""
        return await self._core.get(schema.Manifest, "models", ref, "manifest")

    async def take(
        self, manifest: schema.Manifest, peer: str
    ) -> tuple[schema.Model, schema.Download | None]:
        """Have the core copy a model from the one that its socket `peer` leads to.

        The accepted job; None when the model is there already.
        """
        return await self._accepted("take", manifest=msgspec.to_builtins(manifest), peer=peer)

    async def _accepted(
        self, *path: str, **body: object
    ) -> tuple[schema.Model, schema.Download | None]:
        answer = await self._core.post(dict[str, Any], *path, timeout_s=None, **body)
        job = member(answer, "download")
        model = record(schema.Model, member(answer, "model"))
        return model, record(schema.Download, job) if job else None

    async def cancel_download(self, download_id: str, *, discard: bool = False) -> schema.Download:
        """End a job at once; its partial file is kept for another time unless `discard`."""
        return await self._core.post(
            schema.Download, "downloads", download_id, "cancel", discard=discard
        )

    async def pause_download(self, download_id: str) -> schema.Download:
        """Pause a job."""
        return await self._core.post(schema.Download, "downloads", download_id, "pause")

    async def resume_download(self, download_id: str) -> schema.Download:
        """Let a held job go on, or try a failed one again."""
        return await self._core.post(schema.Download, "downloads", download_id, "resume")

    async def remove_download(self, download_id: str) -> None:
        """Forget a job that has ended."""
        await self._core.answer("DELETE", native_path("downloads", download_id))

    async def move_download(self, download_id: str, to: schema.QueueMove) -> schema.Download:
        """Let a job come sooner or later; it runs when it is among the first."""
        return await self._core.post(schema.Download, "downloads", download_id, "move", to=to)

    async def limit_download(self, download_id: str, bytes_per_s: int | None) -> schema.Download:
        """Limit the rate of one job; None removes its own limit."""
        return await self._core.post(
            schema.Download, "downloads", download_id, "limit", bytes_per_s=bytes_per_s
        )

    async def change_settings(self, **changes: Any) -> schema.Settings:
        """Change settings by name; the core remembers them.

        There are `jobs_at_once`, `rate_limit_bytes_per_s` (None for no limit), `schedule` (all of
        it), `give_way` and `memory_budget_bytes` (None for what the machine has).
        """
        return await self._core.ask(schema.Settings, "PATCH", "settings", body=changes)

    async def cache(self) -> schema.CacheListing:
        """Return the contents of the cache: sizes, shared files, last use."""
        return await self._core.get(schema.CacheListing, "cache", timeout_s=None)

    async def verify(self, what: schema.CacheSelection) -> schema.Verification:
        """Start to check files in the cache, all of them where none are named.

        Its progress is in `State.verifications`.
        """
        return await self._core.post(
            schema.Verification, "cache", "verify", timeout_s=None, **msgspec.to_builtins(what)
        )

    async def cancel_verification(self, key: str) -> schema.Verification:
        """Cancel a verification."""
        return await self._core.post(schema.Verification, "cache", "verify", key, "cancel")

    async def plan_deletion(
        self, what: Sequence[str] | schema.CacheSelection
    ) -> schema.DeletionPlan:
        """Return what a deletion would remove; names alone are models."""
        return await self._core.post(
            schema.DeletionPlan, "cache", "plan", timeout_s=None, **_selected(what)
        )

    async def delete_cached(
        self, what: Sequence[str] | schema.CacheSelection, *, force: bool = False
    ) -> schema.DeletionReceipt:
        """Delete this from the cache; names alone are models.

        Raises InUse when a file is loaded or being downloaded, unless `force`.
        """
        body = _selected(what) | {"force": force}
        return await self._core.post(
            schema.DeletionReceipt, "cache", "delete", timeout_s=None, **body
        )

    async def undoable(self) -> list[schema.Undoable]:
        """Return the actions that can be undone, newest first."""
        return await self._core.get_list(schema.Undoable, "actions", "undo")

    async def undo(self, key: str | None = None) -> schema.Undoable:
        """Undo an action, the newest without a key. Raises NotFound, Conflict."""
        return await self._core.post(schema.Undoable, "undo", id=key)

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
        body: dict[str, Any] = {
            "scopes": list(scopes),
            "expires_s": expires_s,
            "priority": priority,
        }
        return await self._core.post(schema.NewToken, "tokens", name=name, **body)

    async def tokens(self) -> list[schema.Token]:
        """All tokens, oldest first, without their secrets."""
        return await self._core.get_list(schema.Token, "tokens", "tokens")

    async def revoke_token(self, ref: str) -> schema.Token:
        """Revoke the token with this name or id, at once. Raises NotFound."""
        return await self._core.ask(schema.Token, "DELETE", "tokens", ref)

    # Instances

    async def load(self, ref: str, options: schema.LoadOptions, **how: bool) -> schema.Instance:
        """Ask for a model to be loaded; answers once that is accepted.

        Options that are not said are as the last time, else as the core's configuration has them.

        Args:
            ref: Which: id, unique name or short name.
            options: How.
            how: `force` loads it even where it does not fit, `make_room` unloads idle models for
                it or does not, `fresh` forgets the last time, `reload` loads a loaded model anew,
                `end_answers` even where it is answering.

        Raises LoadedAlready for other options than those of a loaded model, without `reload`, and
        InUse where that would end answers, without `end_answers`.
        """
        return await self._load(ref, options, {**how, "wait": False})

    async def save_defaults(self, ref: str, **changes: Any) -> schema.LoadOptions:
        """Save load options as a model's defaults; None removes one. Returns all that are saved."""
        body = msgspec.to_builtins(changes)
        return await self._core.ask(
            schema.LoadOptions, "PATCH", "models", ref, "defaults", body=body
        )

    async def forget_defaults(self, ref: str) -> None:
        """Remove the saved defaults of a model."""
        await self._core.answer("DELETE", native_path("models", ref, "defaults"))

    async def loaded(self, ref: str, options: schema.LoadOptions, **how: bool) -> schema.Instance:
        """As `load`, but answers when the model is ready. Raises what went wrong."""
        return await self._load(ref, options, {**how, "wait": True})

    async def _load(
        self, ref: str, options: schema.LoadOptions, how: dict[str, bool]
    ) -> schema.Instance:
        body = _given(options) | how
        return await self._core.post(schema.Instance, "models", ref, "load", timeout_s=None, **body)

    async def plan_load(
        self, ref: str, options: schema.LoadOptions, **how: bool
    ) -> schema.LoadPlan:
        """What `load` would do now: options with their origins, forecast, what would go first."""
        body = _given(options) | how
        return await self._core.post(
            schema.LoadPlan, "models", ref, "load", "plan", timeout_s=None, **body
        )

    async def loads(self, limit: int = 200) -> list[schema.LoadRecord]:
        """What earlier loads were forecast to take and what they took, newest first."""
        return await self._core.get_list(schema.LoadRecord, "loads", "loads", limit=limit)

    async def change_instance(self, instance_id: str, **changes: Any) -> schema.Instance:
        """Change `pinned` or `idle_ttl_s` (0 for never) of a model that is loaded."""
        return await self._core.ask(
            schema.Instance, "PATCH", "instances", instance_id, body=changes
        )

    async def unload(self, instance_id: str) -> schema.UnloadReceipt:
        """Unload one model, or cancel its load; returns the memory that was freed."""
        return await self._core.post(
            schema.UnloadReceipt, "instances", instance_id, "unload", timeout_s=None
        )

    async def unload_all(self) -> list[schema.UnloadReceipt]:
        """Unload everything."""
        answer = await self._core.post(dict[str, Any], "instances", "unload", timeout_s=None)
        return record(list[schema.UnloadReceipt], items(answer, "receipts"))

    # Requests to models

    @property
    def client_id(self) -> str:
        """What `RequestInfo.client` has for requests of this client."""
        return self._core.client_id

    async def requests(self) -> list[schema.RequestInfo]:
        """Requests to models: those that run or wait, and the last that ended."""
        return await self._core.get_list(schema.RequestInfo, "requests", "requests")

    async def cancel_request(self, request_id: str) -> schema.RequestInfo:
        """Cancel a request to a model. Raises NotFound, and Conflict for one that has ended."""
        return await self._core.post(schema.RequestInfo, "requests", request_id, "cancel")

    async def request_text(self, request_id: str) -> schema.RecordedText | None:
        """What a request says and what was answered; None where not recorded. Raises NotFound."""
        answer = await self._core.get(dict[str, Any], "requests", request_id)
        text = answer.get("text")
        return None if text is None else record(schema.RecordedText, text)

    async def record_requests(self, seconds: float, models: Sequence[str] = ()) -> schema.Recording:
        """Record what requests say for some seconds, in the core's memory only. Raises NotFound."""
        body = {"seconds": seconds, "models": list(models)}
        return await self._core.ask(schema.Recording, "PUT", "recording", body=body)

    async def stop_recording(self) -> None:
        """End the recording of requests, and drop what it has."""
        await self._core.answer("DELETE", "/deck/recording")

    async def bench(
        self, ref: str, at_once: Sequence[int] = (), *, load: bool = False
    ) -> schema.BenchProgress:
        """Begin to measure how fast a model is; `State.bench` has the progress, then the figures.

        `at_once` are numbers of requests at once; `load` loads the model if need be.
        """
        body: dict[str, Any] = {"at_once": list(at_once), "load": load}
        return await self._core.post(schema.BenchProgress, "models", ref, "bench", **body)

    async def cancel_bench(self) -> schema.BenchProgress:
        """Stop the benchmark that runs. Raises NotFound."""
        return await self._core.ask(schema.BenchProgress, "DELETE", "bench")

    async def benches(self, ref: str | None = None) -> list[schema.Bench]:
        """Benchmarks that were kept, newest first; of one model, or of all."""
        return await self._core.get_list(schema.Bench, "benches", "benches", model=ref)

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
        written = partial(chat.request_for, ref, request)
        has_media = any(message.media for message in request.messages)
        path, body = await in_thread(written) if has_media else written()
        async with self._core.events(path, body) as events, aclosing(chat.chunks(events)) as chunks:
            yield chunks

    async def embed(self, ref: str, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """One vector of length 1 a text; the model, one for embeddings, is loaded if need be."""
        body = {"model": ref, "input": list(texts)}
        answer = await self._core.json("POST", "/v1/embeddings", body, timeout_s=None)
        entries = record(list[dict[str, Any]], items(answer, "data"))
        return [record(tuple[float, ...], member(entry, "embedding")) for entry in entries]

    # The core itself

    async def stop(self) -> None:
        """Ask the core to end; it answers first."""
        await self._core.json("POST", "/deck/stop")


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
