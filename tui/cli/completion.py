"""Completion in a shell: short scripts that ask `modeldeck complete` what could come next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem, ShellComplete

MODELS = frozenset({"model", "models"})
"""Arguments that take names of models."""

BASH = """\
_modeldeck() {
    local line="${COMP_LINE:0:COMP_POINT}" cur="" prefix="" value _
    local -a given
    read -ra given <<< "$line"
    if [[ $line != *[[:space:]] ]]; then
        cur="${given[${#given[@]}-1]}"
        unset "given[${#given[@]}-1]"
    fi
    # Bash takes a colon for the end of a word; what stands before it is there already.
    [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]] && prefix="${cur%"${cur##*:}"}"
    COMPREPLY=()
    while IFS=$'\\t' read -r value _; do
        COMPREPLY+=("${value#"$prefix"}")
    done < <(modeldeck complete -- "${given[@]:1}" "$cur" 2>/dev/null)
}
complete -o default -F _modeldeck modeldeck"""

ZSH = """\
#compdef modeldeck
_modeldeck() {
    local line
    local -a found
    for line in "${(@f)$(modeldeck complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    _describe -V modeldeck found
}
compdef _modeldeck modeldeck"""

FISH = """\
complete -c modeldeck -f -a \\
    '(modeldeck complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'"""


def script(shell: str) -> str:
    """Return the script for a shell."""
    return {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that can be completed."""

    unique: str
    title: str
    downloaded: bool = False
    loaded: bool = False

    @property
    def short(self) -> str:
        """The unique name without the owner."""
        return self.unique.rsplit("/", 1)[-1]


class ModelName(click.ParamType[str]):
    """A name of a model, which only the completion knows."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Names that begin with the word, or whose part after the owner does."""
        models = [m for m in known_models() if _is_wanted(m, ctx.command.name)]
        return [
            CompletionItem(name, help=title)
            for name, title in completed(models, incomplete.casefold())
        ]


def _is_wanted(model: NamedModel, command: str | None) -> bool:
    """Whether a command can do anything with a model."""
    if command == "unload":
        return model.loaded
    return model.downloaded or command != "rm"


def completed(models: Sequence[NamedModel], begun: str) -> list[tuple[str, str]]:
    """Names that begin with `begun`, in lower case, with the models' titles.

    Unique names come first; where none fits, names without the owner that fit one model only.

    >>> models = [NamedModel("deck/tiny-GGUF:Q8_0", "tiny"), NamedModel("a/b", "b")]
    >>> completed(models, "deck/"), completed(models, "ti")
    ([('deck/tiny-GGUF:Q8_0', 'tiny')], [('tiny-GGUF:Q8_0', 'tiny')])
    """
    found = [(m.unique, m.title) for m in models if m.unique.casefold().startswith(begun)]
    if found:
        return found
    count = Counter(m.short.casefold() for m in models)
    return [
        (m.short, m.title)
        for m in models
        if m.short.casefold().startswith(begun) and count[m.short.casefold()] == 1
    ]


def known_models() -> list[NamedModel]:
    """Every model: of the core, those on this machine first; without one, of the catalog."""
    from modeldeck.core.config.paths import locate
    from modeldeck.tui.cli.status_line import ask

    state = ask(locate(), "/deck/state")
    if state is None:
        from modeldeck.core.client.offline import builtin_names

        return [NamedModel(unique, title) for unique, title in builtin_names()]
    loaded = {instance["model_id"] for instance in state.get("instances", ())}
    models = [
        NamedModel(
            model["unique"],
            model.get("name", ""),
            downloaded=bool(model.get("downloaded")),
            loaded=model["id"] in loaded,
        )
        for model in state.get("models", ())
    ]
    return sorted(models, key=lambda model: not model.downloaded)


def candidates(program: click.Command, words: Sequence[str]) -> list[tuple[str, str]]:
    """Return completions of the last word, each with a short description."""
    *before, incomplete = words or ("",)
    if incomplete.startswith("@"):
        return [(f"@{name}", "machine") for name in _machines() if name.startswith(incomplete[1:])]
    _know_models(program)
    complete = ShellComplete(program, {}, "modeldeck", "")
    return [
        (item.value, item.help or "")
        for item in complete.get_completions(list(before), incomplete)
        if item.type == "plain"
    ]


def _know_models(command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.name in MODELS:
            parameter.type = ModelName()
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _know_models(inner)


def _machines() -> list[str]:
    from modeldeck.core.config import config_file
    from modeldeck.core.config.paths import locate
    from modeldeck.tui.remote.machines import ALL, LOCAL

    settings, _ = config_file.load(locate().config_file)
    return [*settings.hosts, LOCAL, *([ALL] if settings.hosts else [])]
