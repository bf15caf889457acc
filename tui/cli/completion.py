"""Completion in a shell: short scripts that ask `modeldeck complete` what could come next."""

from __future__ import annotations

from collections.abc import Sequence

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


class ModelName(click.ParamType[str]):
    """A name of a model, which only the completion knows."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Names that begin with what there is, or whose part after the owner does."""
        wanted = incomplete.casefold()
        return [
            CompletionItem(name, help=words)
            for name, words in model_names()
            if name.casefold().startswith(wanted)
        ]


def model_names() -> list[tuple[str, str]]:
    """Every model by its unique name, with what it is called: of the core, else of the catalog."""
    from modeldeck.core.config.paths import locate
    from modeldeck.tui.cli.status_line import ask

    state = ask(locate(), "/deck/state")
    if state is None:
        from modeldeck.core.client.offline import builtin_names

        return builtin_names()
    models = sorted(state.get("models", ()), key=lambda model: not model.get("downloaded"))
    return [(model["unique"], model.get("name", "")) for model in models]


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
    from modeldeck.core.config import config
    from modeldeck.core.config.paths import locate
    from modeldeck.tui.remote.machines import ALL, LOCAL

    settings, _ = config.load(locate().config_file)
    return [*settings.hosts, LOCAL, *([ALL] if settings.hosts else [])]
