"""Records as lines of text. Pure: a record, the signs and a width in, lines out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from modeldeck.core.schema import (
    InstanceState,
)
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import sharing
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.schema import (
        Chunk,
        DeletionPlan,
        DeletionReceipt,
        Download,
        Fit,
        Forecast,
        Instance,
        Model,
        Repository,
        Runtime,
        SearchResult,
        UnloadReceipt,
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
        return "local" if model.local else "downloaded"
    return "gated" if model.gated else ""


def _sign(model_state: str, signs: Glyphs) -> str:
    words = {
        "loaded": signs.loaded,
        "loading": signs.busy,
        "downloaded": signs.done,
        "local": signs.done,
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
            word,
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


# Fit and memory


def items(forecast: Forecast) -> str:
    """What a load takes, item by item."""
    parts = [
        ("weights", forecast.weights_bytes),
        ("KV", forecast.kv_bytes),
        ("compute", forecast.compute_bytes),
        ("overhead", forecast.overhead_bytes),
    ]
    if forecast.correction_bytes:
        parts.append(("learned", forecast.correction_bytes))
    return fmt.memory_sum(parts, forecast.total_bytes)


def basis(forecast: Forecast) -> str:
    """What a forecast rests on, and what earlier loads have to do with it."""
    source = _source(forecast)
    if not forecast.samples:
        return f"{source}; not yet calibrated on this machine"
    loads = fmt.number(forecast.samples, "earlier load")
    return f"{source}; {forecast.correction_bytes / (1 << 20):+.0f} MiB learned from {loads}"


def _source(forecast: Forecast) -> str:
    if forecast.exact:
        return "exact: asked llama.cpp"
    if forecast.gpu_bytes is None:
        return "exact but for the GPU: asked llama.cpp"
    if forecast.devices:
        return "asked llama.cpp; a little too high"
    return "estimate: the engine gives no exact plan"


def on_gpu(forecast: Forecast) -> str:
    """Share of the forecast in dedicated GPU memory; empty where there is none."""
    if forecast.gpu_bytes is None:
        return f"how much of it goes to the GPU is not known: {fmt.clean(forecast.gpu_unknown)}"
    if not forecast.gpu_bytes:
        return ""
    if not forecast.devices:
        return f"of it {fmt.memory(forecast.gpu_bytes)} on the GPU"
    parts = (f"{fmt.memory(d.total_bytes)} on {fmt.clean(d.name)}" for d in forecast.devices)
    return f"of it {', '.join(parts)}, and what its driver takes besides"


def fit(answer: Fit) -> list[str]:
    """Describe whether a model fits, and the forecast behind the answer."""
    forecast = answer.forecast
    if forecast is None:
        return [f"{answer.verdict}: {answer.reason or 'nothing is known about its needs'}"]
    in_machine = forecast.machine_bytes
    needs = fmt.memory(forecast.total_bytes)
    if in_machine is not None:
        needs = f"{fmt.memory(in_machine)} of {fmt.memory(answer.available_bytes)} free now"
    lines = [
        f"{answer.verdict}: {needs}, at {_context(answer)}",
        f"  {items(forecast)}",
    ]
    if words := on_gpu(forecast):
        lines.append(f"  {words}")
    reason = answer.reason if forecast.gpu_bytes is not None else None  # it is told already
    return [*lines, f"  {basis(forecast)}" + (f"; {reason}" if reason else "")]


def _context(what: Fit | Instance) -> str:
    """The context of one request, and what several share."""
    words = sharing.shared_briefly(what.parallel, what.context_length, what.cache_tokens)
    return f"{fmt.tokens(what.context_length)} context" + (f", {words}" if words else "")


FILLED = 0.9
"""Fraction of the context in use from which the peak counts as that of a full context."""


def error(instance: Instance) -> str:
    """Error of the forecast against the peak, without dedicated GPU memory.

    The forecast is for a full context. An instance whose context was never filled has no error
    (`—`), unless it took more than forecast all the same.
    """
    forecast, peak = instance.forecast, instance.peak_bytes
    if forecast is None or peak is None:
        return fmt.UNKNOWN
    expected = forecast.machine_bytes
    if expected is None:
        return fmt.UNKNOWN
    peak -= instance.prefix_cache_bytes or 0  # which is not part of the forecast
    used, length = instance.context_used or 0, instance.context_length or 0
    if peak <= expected and used < FILLED * max(1, length):
        return fmt.UNKNOWN
    return fmt.error(expected, peak)


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
            error(instance),
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
    where = f"{instance.engine}, {_context(instance)}, pid {instance.pid}"
    lines = [f"{instance.unique} ready in {fmt.duration(instance.load_s)}  ({where})"]
    forecast = instance.forecast
    if forecast is not None:
        lines.append(f"  forecast   {items(forecast)}")
        if words := on_gpu(forecast):
            lines.append(f"             {words}")
        if words := sharing.prefix_cache(forecast):
            lines.append(f"             {words}")
    measured = fmt.memory(instance.measured_bytes)
    lines.append(f"  measured   {measured} now; the forecast is for a full context")
    return lines + [f"  note       {fmt.clean(words)}" for words in instance.warnings]


def unloaded(receipt: UnloadReceipt) -> str:
    """What unloading gave back."""
    freed = f"freed {fmt.memory(receipt.freed_bytes)} in {fmt.duration(receipt.seconds)}"
    end = "its process is gone" if receipt.process_gone else "its process is still there"
    left = f"; not freed: {fmt.clean(receipt.not_freed)}" if receipt.not_freed else ""
    return f"{receipt.unique} unloaded: {freed}, {end}{left}"


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


def downloaded(job: Download) -> str:
    """What a completed download was."""
    rate = job.total_bytes / job.seconds if job.seconds else None
    took = f"{fmt.size(job.total_bytes)} in {fmt.duration(job.seconds)}, {fmt.rate(rate)}"
    files = fmt.number(len(job.files), "file") if job.files else "files"
    verified = "verified" if job.verifiable else "not verified"
    return f"{job.unique} downloaded: {took}, {files} {verified}"


# Deletion


def plan(what: DeletionPlan) -> list[str]:
    """Describe a deletion plan: items with a size line by line, the others counted."""
    sized = [item for item in what.delete if item.size_bytes]
    paths = [item.path for item in sized] + [item.path for item in what.keep]
    base = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    lines = [f"Deleting gives back {fmt.size(what.freed_bytes)}:"]
    lines += [f"  in {fmt.clean(base)}"] if base else []
    lines += [
        f"  delete  {fmt.size(item.size_bytes):>8}  {fmt.clean(os.path.relpath(item.path, base))}"
        for item in sized
    ]
    counted = Counter(item.kind for item in what.delete if not item.size_bytes)
    if counted:
        words = (fmt.number(count, kind, _PLURALS.get(kind)) for kind, count in counted.items())
        lines.append(f"  delete            {', '.join(words)}")
    lines += [
        f"  keep    {fmt.size(item.size_bytes):>8}  {fmt.clean(os.path.relpath(item.path, base))}:"
        f" {fmt.clean(item.reason)}"
        for item in what.keep
    ]
    return lines + [f"  Needs --force: {fmt.clean(reason)}" for reason in what.blocked]


_PLURALS = {"repository": "repositories"}


def deleted(receipt: DeletionReceipt) -> list[str]:
    """What a deletion did."""
    lines = [f"freed {fmt.size(receipt.freed_bytes)}: {fmt.number(receipt.deleted, 'item')} gone"]
    return lines + [f"  not deleted: {fmt.clean(reason)}" for reason in receipt.failed]


# Status


def status(state: State, uptime_s: float | None, signs: Glyphs) -> list[str]:
    """A small page about the machine."""
    host, disk = state.host, state.disk
    lines = [f"modeldeck {host.version}  {fmt.clean(host.name)}  up {fmt.duration(uptime_s)}"]
    lines += [_fact("answers on", where) for where in (*host.urls, host.socket or "") if where]
    lines += [_fact("hub", host.hub + (f"  {host.hub_error}" if host.hub_error else ""))]
    lines += [_fact("memory", _memory(state, signs))]
    lines += [
        _fact("gpu", f"{fmt.memory(gpu.used_bytes)} of {fmt.memory(gpu.total_bytes)}  {gpu.name}")
        for gpu in state.memory.gpus
    ]
    free, held = fmt.size(disk.free_bytes), fmt.size(disk.cache_bytes)
    partial = f", {fmt.size(disk.partial_bytes)} of it partial" if disk.partial_bytes else ""
    lines += [_fact("disk", f"{free} free, cache {held}{partial}")]
    lines += [_fact("engine", _runtime(runtime)) for runtime in state.runtimes]
    here = sum(model.downloaded for model in state.models.values())
    lines += [_fact("models", f"{here} downloaded of {len(state.models)}")]
    lines += [_fact("loaded", _loaded(instance)) for instance in live(state)]
    lines += [_fact("download", download_words(job)[0]) for job in running(state)]
    return lines + [_fact("notice", fmt.clean(notice)) for notice in host.notices]


def _fact(name: str, text: str) -> str:
    return f"  {name:<11}{text}"


def _loaded(instance: Instance) -> str:
    return f"{instance.unique}  {fmt.memory(instance.measured_bytes)}  {instance.state}"


def _runtime(runtime: Runtime) -> str:
    if runtime.available:
        return f"{runtime.name} {runtime.version or ''}".rstrip()
    return f"{runtime.name} {fmt.UNKNOWN}  {fmt.clean(runtime.why_not or 'not available')}"


def _used(state: State) -> int | None:
    memory = state.memory
    if memory.total_bytes is None or memory.available_bytes is None:
        return None
    return memory.total_bytes - memory.available_bytes


def _memory(state: State, signs: Glyphs) -> str:
    used, total = _used(state), state.memory.total_bytes
    shape = fmt.bar(used / total if used is not None and total else None, 20, signs)
    swap = f"  swap {fmt.memory(state.memory.swap_used_bytes)}"
    return f"{shape}  {fmt.memory(used)} of {fmt.memory(total)}{swap}"
