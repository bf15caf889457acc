"""Forecasts of memory as lines of text: whether a model fits, and how good a forecast was. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import sharing

if TYPE_CHECKING:
    from modeldeck.core.schema import Fit, Forecast, Instance


def items(forecast: Forecast) -> str:
    """What a load takes, item by item."""
    parts = [
        ("weights", forecast.weights_bytes),
        ("KV", forecast.kv_bytes),
        ("compute", forecast.compute_bytes),
        ("overhead", forecast.overhead_bytes),
    ]
    if forecast.projector_bytes:
        parts.insert(3, ("projector", forecast.projector_bytes))
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
        f"{answer.verdict}: {needs}, at {context(answer)}",
        f"  {items(forecast)}",
    ]
    if words := on_gpu(forecast):
        lines.append(f"  {words}")
    reason = answer.reason if forecast.gpu_bytes is not None else None  # it is told already
    return [*lines, f"  {basis(forecast)}" + (f"; {reason}" if reason else "")]


def context(what: Fit | Instance) -> str:
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
