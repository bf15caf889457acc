"""The commands about models in memory: load, plan a load, unload, list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client

if TYPE_CHECKING:
    from modeldeck.core.schema import LoadOptions

F = TypeVar("F", bound=Callable[..., Any])


class LimitedParam(click.ParamType[int]):
    """A whole number within the limits of a load option."""

    name = "number"

    def __init__(self, option: str) -> None:
        """`option` is the name of the field in `LoadOptions`."""
        self._option = option

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number."""
        try:
            number = int(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        return int(self.within(number, param, ctx))

    def within(
        self, number: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """A number; fails in words for one that no model can take."""
        from modeldeck.core.config.load_options import LIMITS  # not for `--help`

        low, high = LIMITS[self._option]
        if not low <= number <= high:
            self.fail(f"{number:,} is not from {low:,.0f} to {high:,.0f}.", param, ctx)
        return number


class ContextParam(LimitedParam):
    """A context length, or `fit`: the largest that has room."""

    name = "tokens"
    FIT = 0

    def __init__(self) -> None:
        super().__init__("context_length")

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """In tokens; `FIT` for what fits."""
        from modeldeck.tui.text.parse import tokens

        if str(value).strip().lower() == "fit":
            return self.FIT
        if (count := tokens(str(value))) is None:
            self.fail(f"{value!r} is neither a number of tokens, as 16k, nor `fit`.", param, ctx)
        return int(self.within(count, param, ctx))


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
            seconds = float(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither a number of seconds nor `never`.", param, ctx)
        return LimitedParam("idle_ttl_s").within(seconds, param, ctx)


def load_options(command: F) -> F:
    """The options that say how a model is loaded."""
    kinds = click.Choice(["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
    for option in reversed(
        (
            click.option("--context", "-c", "context_length", type=ContextParam(), metavar="TOKENS",
                         help="Context length; `fit`: the largest that has room."),
            click.option("--parallel", type=LimitedParam("parallel"), metavar="N",
                         help="Requests answered at once, 1 to 16; they share the context."),
            click.option("--cache-tokens", type=LimitedParam("cache_tokens"), metavar="TOKENS",
                         help="Tokens they share, instead of the context length."),
            click.option("--engine", type=click.Choice(["llama.cpp", "mlx"]),
                         help="Load it with this engine."),
            click.option("--gpu-layers", type=LimitedParam("gpu_layers"), metavar="N",
                         help="Layers on the GPU; -1: all."),
            click.option("--kv-cache-type", type=kinds, help="Type of the KV cache."),
            click.option("--flash-attention/--no-flash-attention", default=None),
            click.option("--threads", type=LimitedParam("threads"), metavar="N",
                         help="Threads of the engine."),
            click.option("--batch-size", type=LimitedParam("batch_size"), metavar="N",
                         help="Tokens per prompt step."),
            click.option("--mmap/--no-mmap", default=None, help="Map the file, or read it."),
            click.option("--mlock/--no-mlock", default=None, help="Keep the weights in memory."),
            click.option("--lora", "loras", multiple=True, metavar="PATH[:SCALE]",
                         help="Lay an adapter over the weights; several are laid in order."),
            click.option("--vision/--no-vision", default=None,
                         help="With its projector, for images and audio, or without."),
            click.option("--draft-model", metavar="MODEL", help="A small one that guesses ahead."),
            click.option("--draft-tokens", type=LimitedParam("draft_tokens"), metavar="N",
                         help="Tokens it guesses."),
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
    example="modeldeck load Qwen/Qwen3-0.6B-GGUF:Q8_0 -c 8k --save\n"
    "modeldeck load Qwen/Qwen3-0.6B-GGUF:Q8_0 -c 16k --reload\n"
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
@click.option("--reload", is_flag=True, help="If it is loaded with other options: load it anew.")
@click.option("--yes", "-y", is_flag=True, help="With --reload: end its answers unasked.")
@click.option("--save", is_flag=True, help="Save these options as the defaults of MODEL.")
@click.option("--dry-run", "-n", is_flag=True, help="Show what it would do, load nothing.")
def load(
    model: str,
    fresh: bool,
    make_room: bool | None,
    force: bool,
    reload: bool,
    yes: bool,
    save: bool,
    dry_run: bool,
    json: bool,
    **given: Any,
) -> None:
    """Load MODEL and show the memory it takes. ctrl-C calls the load off.

    What is not said is as the last time this model was loaded, else as it was saved, else as the
    configuration has it. A reload keeps what is not said as it is loaded.
    """
    from modeldeck.tui.cli.actions import load as load_actions

    how = {"fresh": fresh, "force": force, "reload": reload}
    if make_room is not None:
        how["make_room"] = make_room
    options = options_of(given)
    if save and dry_run:
        raise click.UsageError("--dry-run saves nothing.")
    if yes and not reload:
        raise click.UsageError("--yes is about --reload.")
    if dry_run:
        with_client(
            lambda client, out: load_actions.plan_load(client, out, model, options, **how),
            json=json,
        )
        return
    with_client(
        lambda client, out: load_actions.load(
            client, out, model, options, save=save, yes=yes, **how
        ),
        json=json,
    )


@click.command(
    cls=ExampleCommand,
    example="modeldeck defaults Qwen/Qwen3-0.6B-GGUF:Q8_0 -c 8k\n"
    "modeldeck defaults Qwen/Qwen3-0.6B-GGUF:Q8_0 --forget",
)
@click.argument("model")
@load_options
@click.option("--forget", is_flag=True, help="Remove what is saved.")
def defaults(model: str, forget: bool, json: bool, **given: Any) -> None:
    """Show the load options that are saved for MODEL; those that are given are saved first."""
    from modeldeck.tui.cli.actions import load as load_actions

    options = options_of(given)
    with_client(
        lambda client, out: load_actions.defaults(client, out, model, options, forget=forget),
        json=json,
    )


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


COMMANDS: tuple[click.Command, ...] = (load, defaults, unload, ps)
