"""The commands about models in memory: load, plan a load, unload, list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client

if TYPE_CHECKING:
    from modeldeck.core.schema import LoadOptions

F = TypeVar("F", bound=Callable[..., Any])


class ContextParam(click.ParamType[int]):
    """A context length, or `fit`: the largest that has room."""

    name = "tokens"
    FIT = 0

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """In tokens; `FIT` for what fits."""
        text = str(value).strip().lower()
        if text == "fit":
            return self.FIT
        if not text.isdigit():
            self.fail(f"{value!r} is neither a number of tokens nor `fit`.", param, ctx)
        return int(text)


class IdleTimeParam(click.ParamType[float]):
    """Seconds, or `never`."""

    name = "seconds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """In seconds; 0 for never."""
        if str(value).strip().lower() == "never":
            return 0.0
        try:
            return float(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither a number of seconds nor `never`.", param, ctx)


def load_options(command: F) -> F:
    """The options that say how a model is loaded."""
    kinds = click.Choice(["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
    for option in reversed(
        (
            click.option("--context", "-c", "context_length", type=ContextParam(), metavar="TOKENS",
                         help="Context length; `fit`: the largest that has room."),
            click.option("--parallel", type=int, metavar="N",
                         help="Requests answered at once, 1 to 16; they share the context."),
            click.option("--cache-tokens", type=int, metavar="TOKENS",
                         help="Tokens they share, instead of the context length."),
            click.option("--engine", type=click.Choice(["llama.cpp", "mlx"]),
                         help="Load it with this engine."),
            click.option("--gpu-layers", type=int, metavar="N", help="Layers on the GPU; -1: all."),
            click.option("--kv-cache-type", type=kinds, help="Type of the KV cache."),
            click.option("--flash-attention/--no-flash-attention", default=None),
            click.option("--threads", type=int, metavar="N", help="Threads of the engine."),
            click.option("--batch-size", type=int, metavar="N", help="Tokens per prompt step."),
            click.option("--mmap/--no-mmap", default=None, help="Map the file, or read it."),
            click.option("--mlock/--no-mlock", default=None, help="Keep the weights in memory."),
            click.option("--lora", "loras", multiple=True, metavar="PATH[:SCALE]",
                         help="Lay an adapter over the weights; several are laid in order."),
            click.option("--draft-model", metavar="MODEL", help="A small one that guesses ahead."),
            click.option("--draft-tokens", type=int, metavar="N", help="Tokens it guesses."),
            click.option("--idle-ttl", "idle_ttl_s", type=IdleTimeParam(), metavar="SECONDS",
                         help="Unload after this long without a request; 0 or never: keep it."),
            click.option("--pin/--no-pin", "pinned", default=None,
                         help="Never unload it by itself."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def options_of(given: dict[str, Any]) -> LoadOptions:
    """The load options among a command's. What they may hold is the core's to check."""
    from modeldeck.core.schema import LoadOptions
    from modeldeck.tui.text.load_options import lora

    loras = tuple(lora(text) for text in given.pop("loras", ()))
    if given.get("context_length") == ContextParam.FIT:
        given = {**given, "context_length": None, "context_fit": True}
    return LoadOptions(**given, loras=loras or None)


@click.command(
    cls=ExampleCommand,
    example="modeldeck load Qwen/Qwen3-0.6B-GGUF:Q8_0 -c 8192\n"
    "modeldeck load Qwen/Qwen3-0.6B-GGUF:Q8_0 --dry-run",
)
@click.argument("model")
@load_options
@click.option("--embedding", is_flag=True, default=None, help="Load for embeddings, not text.")
@click.option("--fresh", is_flag=True, help="Not with the options of the last time.")
@click.option(
    "--make-room/--no-make-room", default=None, help="Unload idle models where there is no room."
)
@click.option("--force", is_flag=True, help="Load even when it does not seem to fit.")
@click.option("--dry-run", "-n", is_flag=True, help="Show what it would do, load nothing.")
def load(
    model: str,
    fresh: bool,
    make_room: bool | None,
    force: bool,
    dry_run: bool,
    json: bool,
    **given: Any,
) -> None:
    """Load MODEL and show the memory it takes. ctrl-C calls the load off.

    What is not said is as the last time this model was loaded, else as the configuration has it.
    """
    from modeldeck.tui.cli.actions import models as model_actions

    how = {"fresh": fresh, "force": force}
    if make_room is not None:
        how["make_room"] = make_room
    act = model_actions.plan_load if dry_run else model_actions.load
    with_client(lambda client, out: act(client, out, model, options_of(given), **how), json=json)


@click.command(cls=ExampleCommand, example="modeldeck unload --all")
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--all", "everything", is_flag=True, help="Unload all that is not pinned.")
def unload(models: tuple[str, ...], everything: bool, json: bool) -> None:
    """Unload models and show the memory that came back."""
    from modeldeck.tui.cli.actions import models as model_actions

    if bool(models) == everything:
        raise click.UsageError("Name a MODEL, or say --all.")
    with_client(
        lambda client, out: model_actions.unload(client, out, models, everything=everything),
        json=json,
    )


@click.command(cls=ExampleCommand, example="modeldeck ps --json\nmodeldeck ps --history")
@click.option("--history", is_flag=True, help="Earlier loads: forecast, peak, what was learned.")
def ps(history: bool, json: bool) -> None:
    """List what is loaded, with the memory it was forecast and measured to take."""
    from modeldeck.tui.cli.actions import models as model_actions

    with_client(model_actions.history if history else model_actions.ps, json=json)


COMMANDS: tuple[click.Command, ...] = (load, unload, ps)
