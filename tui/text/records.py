"""Records as lines of text. Pure: a record, the signs and a width in, lines out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from modeldeck.core.schema import (
    OTHER_TOOLS,
    InstanceState,
)
from modeldeck.tui.text import forecasts, sharing
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.schema import (
        Chunk,
        Download,
        Instance,
        Model,
        Repository,
        SearchResult,
        UnloadReceipt,
        UpdateCheck,
    )
    from modeldeck.core.schema.state import State
    from modeldeck.tui.text.format import Glyphs

ENDED_JOBS = ("completed", "failed", "canceled")
RUNNING_JOBS = ("queued", "downloading", "verifying")
ENDED_INSTANCES = (InstanceState.STOPPED, InstanceState.FAILED)


def live(state: State) -> list[Instance]:
    """The instances that hold memory, or are about to."""
    return [i for i in state.instances.values() if i.state not in ENDED_INSTANCES]


def running(state: State) -> list[Download]:
    """The downloads that are under way."""
    return [d for d in state.downloads.values() if d.state in RUNNING_JOBS]


def job_state(state: str) -> str:
    """The state of a download, or of one of its files, in words for people.

    >>> job_state("completed"), job_state("canceled"), job_state("paused")
    ('downloaded', 'cancelled', 'paused')
    """
    return {"completed": "downloaded", "canceled": "cancelled"}.get(state, state)


def stands(state: str) -> str:
    """How a download or a loaded model stands, as the end of a sentence about it.

    >>> stands("completed"), stands("failed"), stands("stopping")
    ('is downloaded', 'failed', 'is unloading')
    """
    loaded = {"starting": "loading", "ready": "loaded", "busy": "answering"}
    words = {**loaded, "stopping": "unloading", "stopped": "unloaded"}.get(state, job_state(state))
    return words if state == "failed" else f"is {words}"


# Models


def model_state(model: Model, state: State) -> str:
    """Where a model stands on this machine, in a word or two."""
    for instance in live(state):
        if instance.model_id == model.id:
            return "loading" if instance.state is InstanceState.STARTING else "loaded"
    for job in state.downloads.values():
        if job.model_id == model.id and job.state not in ENDED_JOBS:
            return f"{job.state} {fmt.percent(portion(job))}"
    if model.downloaded:
        return here(model)
    return "gated" if model.gated else ""


def here(model: Model) -> str:
    """What a model on this machine is called: downloaded, local, or of which tool."""
    if model.source in OTHER_TOOLS:
        return f"from {model.source}"
    return "local" if model.local else "downloaded"


def updates(check: UpdateCheck) -> str:
    """How many models the Hub has newer files of."""
    asked = f" of {fmt.number(check.checked, 'model')}"
    silent = len(check.unanswered)
    left = (
        f"; it did not tell of {fmt.number(silent, 'repository', 'repositories')}" if silent else ""
    )
    return f"The Hub has newer files of {len(check.updates) or 'none'}{asked}{left}."


def outdated(found: Iterable[Model], width: int) -> list[str]:
    """A table of models with newer files on the Hub: what is here, and what is there."""
    heads = (
        TextColumn(title="model", shrink=True),
        TextColumn(title="here"),
        TextColumn(title="on the Hub"),
        TextColumn(title="changed"),
    )
    cells = [
        (
            model.unique,
            (model.revision or fmt.UNKNOWN)[:8],
            update.revision[:8],
            update.last_modified[:10] or fmt.UNKNOWN,
        )
        for model in found
        if (update := model.update_available) is not None
    ]
    return fmt.table(heads, cells, width)


def here_already(model: Model, name: str) -> str:
    """That a model need not be downloaded."""
    if model.source in OTHER_TOOLS:
        return f"On this machine already ({OTHER_TOOLS[model.source]})."
    return f"{name} is downloaded already."


def _sign(model_state: str, signs: Glyphs) -> str:
    words = {
        "loaded": signs.loaded,
        "loading": signs.busy,
        "downloaded": signs.done,
        "local": signs.done,
        "from": signs.done,
        "paused": signs.paused,
        "": "",
        "gated": "",
    }
    return words.get(model_state.split(" ")[0], signs.down)


def models(state: State, wanted: Iterable[Model], signs: Glyphs, width: int) -> list[str]:
    """A table of models, those on this machine first."""
    rows = [(model, model_state(model, state)) for model in wanted]
    rows.sort(key=lambda row: row[1] in ("", "gated"))
    heads = (
        TextColumn(title=""),
        TextColumn(title="model", shrink=True),
        TextColumn(title="params", right=True),
        TextColumn(title="size", right=True),
        TextColumn(title="context", right=True),
        TextColumn(title="state"),
    )
    cells = [
        (
            _sign(word, signs) or " ",
            model.unique,
            fmt.parameters(model.parameters),
            fmt.size(model.size_bytes),
            fmt.tokens(model.context_length),
            f"{word}{signs.newer}" if model.update_available and word == "downloaded" else word,
        )
        for model, word in rows
    ]
    return fmt.table(heads, cells, width)


def search(result: SearchResult, width: int) -> list[str]:
    """A table of repositories."""
    heads = (
        TextColumn(title="repository", shrink=True),
        TextColumn(title="formats"),
        TextColumn(title="params", right=True),
        TextColumn(title="downloads", right=True),
        TextColumn(title="likes", right=True),
        TextColumn(title="changed"),
        TextColumn(title=""),
    )
    cells = [
        (
            hit.repo,
            " ".join(hit.formats),
            fmt.parameters(hit.parameters),
            fmt.count(hit.downloads),
            fmt.count(hit.likes),
            (hit.last_modified or fmt.UNKNOWN)[:10],
            "gated" if hit.gated else "",
        )
        for hit in result.hits
    ]
    return fmt.table(heads, cells, width)


def variants(repository: Repository, width: int) -> list[str]:
    """A table of what can be chosen in a repository."""
    heads = (
        TextColumn(title="model", shrink=True),
        TextColumn(title="quantization"),
        TextColumn(title="size", right=True),
        TextColumn(title="files", right=True),
        TextColumn(title=""),
    )
    cells = [
        (
            variant.unique,
            variant.quantization or fmt.UNKNOWN,
            fmt.size(variant.size_bytes),
            str(len(variant.files)),
            "not loadable" if variant.refusal else "vision" if variant.projector else "",
        )
        for variant in repository.variants
    ]
    against = [v for v in repository.variants if v.refusal]
    return fmt.table(heads, cells, width) + [
        f"{fmt.clean(variant.unique)}: {fmt.clean(variant.refusal or '')}" for variant in against
    ]


def no_engine(state: State, model: Model) -> str | None:
    """That no engine of the machine loads this model, and why; None where one does."""
    for runtime in state.runtimes:
        if model.format in runtime.formats and not runtime.available:
            return (
                f"{fmt.clean(model.unique)} cannot be loaded here yet, since it needs"
                f" {runtime.name}: {fmt.clean(runtime.why_not or 'it is not installed')}"
            )
    return None


# Memory


def instances(state: State, width: int) -> list[str]:
    """A table of what is loaded."""
    heads = (
        TextColumn(title="model", shrink=True),
        TextColumn(title="engine"),
        TextColumn(title="ctx", right=True),
        TextColumn(title="forecast", right=True),
        TextColumn(title="measured", right=True),
        TextColumn(title="error", right=True),
        TextColumn(title="state"),
    )
    cells = [
        (
            instance.unique,
            instance.engine,
            fmt.tokens(instance.context_length),
            fmt.memory(instance.forecast.total_bytes if instance.forecast else None),
            fmt.memory(instance.measured_bytes),
            forecasts.error(instance),
            _instance_word(instance),
        )
        for instance in state.instances.values()
    ]
    head, *rows = fmt.table(heads, cells, width)
    details = map(_held, state.instances.values())
    lines = (line for pair in zip(rows, details, strict=True) for line in pair if line)
    return [head, *lines]


def _held(instance: Instance) -> str:
    """Private memory and file cache of an instance, and what its requests share."""
    if instance.private_bytes is None:
        return ""
    length, cells = instance.context_length, instance.cache_tokens
    shared = sharing.shared_briefly(instance.parallel, length, cells)
    parts = [f"private {fmt.memory(instance.private_bytes)}"]
    if instance.mapped_bytes is not None:
        parts.append(f"file cache {fmt.memory(instance.mapped_bytes)}")
    if instance.gpu_bytes is not None:
        parts.append(f"GPU {fmt.memory(instance.gpu_bytes)}")
    parts.append(f"peak {fmt.memory(instance.peak_bytes)}")
    return "  " + "  ".join([*parts, shared] if shared else parts)


def _instance_word(instance: Instance) -> str:
    if instance.state is InstanceState.STARTING:
        return f"{instance.stage or 'starting'} {fmt.percent(instance.progress)}"
    if instance.state is InstanceState.READY and instance.idle_s is not None:
        return f"idle {fmt.duration(int(instance.idle_s))}" if instance.idle_s >= 1 else "idle"
    return str(instance.state)


def loading(instance: Instance, signs: Glyphs) -> str:
    """One line about a load under way."""
    shape = fmt.bar(instance.progress, 20, signs)
    stage = instance.stage or "starting"
    return f"{signs.busy} {instance.unique}  {shape}  {fmt.percent(instance.progress)}  {stage}"


def loaded(instance: Instance) -> list[str]:
    """What a load took, against what was forecast."""
    where = f"{instance.engine}, {forecasts.context(instance)}, pid {instance.pid}"
    lines = [f"{instance.unique} ready in {fmt.duration(instance.load_s)}  ({where})"]
    forecast = instance.forecast
    if forecast is not None:
        lines.append(f"  forecast   {forecasts.items(forecast)}")
        if words := forecasts.on_gpu(forecast):
            lines.append(f"             {words}")
        if words := sharing.prefix_cache(forecast):
            lines.append(f"             {words}")
    measured = fmt.memory(instance.measured_bytes)
    lines.append(f"  measured   {measured} now; the forecast is for a full context")
    return lines + [f"  note       {fmt.clean(words)}" for words in instance.warnings]


def unloaded(receipt: UnloadReceipt, name: str = "") -> str:
    """What unloading gave back; `name` in the place of the unique name."""
    freed = f"{fmt.memory(receipt.freed_bytes)} freed in {fmt.duration(receipt.seconds)}"
    end = "" if receipt.process_gone else ", but its process is still there"
    left = f"; not freed: {fmt.clean(receipt.not_freed)}" if receipt.not_freed else ""
    return f"Unloaded {name or receipt.unique}: {freed}{end}{left}"


def answered(last: Chunk, seconds: float) -> str:
    """How fast an answer came, from its last chunk and the seconds it took in all."""
    parts = [fmt.number(last.completion_tokens or 0, "token")]
    if last.thought_tokens:
        parts.append(f"{last.thought_tokens} of them thought")
    if last.tokens_per_s is not None:
        parts.append(f"{last.tokens_per_s:.0f} tokens/s")
    if last.time_to_first_token_s is not None:
        parts.append(f"first after {fmt.duration(last.time_to_first_token_s)}")
    parts.append(f"{fmt.duration(seconds)} in all")
    if last.finish_reason == "length":
        parts.append("cut off at its limit")
    return ", ".join(parts)


def counts(last: Chunk) -> dict[str, Any]:
    """What the last chunk of an answer counts, for programs."""
    texts = ("text", "thought")
    return {f.name: getattr(last, f.name) for f in fields(last) if f.name not in texts}


# Downloads


def portion(job: Download) -> float | None:
    """Progress of a download or of its verification, 0 to 1."""
    done = job.verified_bytes if job.state == "verifying" else job.received_bytes
    return done / job.total_bytes if job.total_bytes else None


def download(job: Download, signs: Glyphs, width: int) -> str:
    """One line about a download under way, each fact always at the same place."""
    done = f"{_amount(job):>5}/{fmt.size(job.total_bytes):<7}"
    if job.state == "downloading":
        going = f"{fmt.rate(job.rate_bytes_per_s):>9}  {fmt.duration(job.eta_s):>6}"
    else:
        going = f"{job.state:<17}"
    percent = f"{fmt.percent(portion(job)):>5}"
    tail = "  ".join([fmt.bar(portion(job), 10, signs), percent, done, going])
    return f"{signs.down} {fmt.squeeze(job.unique, max(8, width - fmt.columns(tail) - 5))}  {tail}"


def download_words(job: Download) -> tuple[str, object]:
    """Progress for a log: a line, and a key that changes at every tenth."""
    fraction = portion(job)
    words = f"{job.unique}  {job.state}  {fmt.percent(fraction)} of {fmt.size(job.total_bytes)}"
    if job.rate_bytes_per_s is not None:
        words += f"  {fmt.rate(job.rate_bytes_per_s)}"
    if job.eta_s is not None:
        words += f"  {fmt.duration(job.eta_s)} left"
    return words, (job.state, int((fraction or 0) * 10))


def _amount(job: Download) -> str:
    """Bytes so far, in the unit of the total: `2.7` beside `7.3 GB`."""
    text = fmt.size(job.received_bytes)
    return text.split(" ")[0] if text[-2:] == fmt.size(job.total_bytes)[-2:] else text


def downloaded(job: Download, name: str = "") -> str:
    """What a completed download was; `name` of its model, the unique one by default."""
    rate = job.total_bytes / job.seconds if job.seconds else None
    took = f"{fmt.size(job.total_bytes)} in {fmt.duration(job.seconds)}, {fmt.rate(rate)}"
    files = fmt.number(len(job.files), "file") if job.files else "files"
    verified = "verified" if job.verifiable else "not verified"
    return f"{name or job.unique} downloaded: {took}, {files} {verified}"
