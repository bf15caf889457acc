"""How a chat template is told whether to think, and how much. Pure.

Templates differ in the variable that they read, and in its values: most have a truth value, others
a mode, a level of effort or a number of tokens. All variables that a template names are set at
once; one that refuses a value (Hunyuan's) is rendered without it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from modeldeck.core.schema import GenerateRequest, ThinkingEffort

_SWITCHES: dict[str, tuple[Any, Any]] = {
    "enable_thinking": (True, False),  # Qwen, GLM, Gemma 4, SmolLM3 and most others
    "thinking": (True, False),  # DeepSeek V3.1, Granite, Kimi K3
    "reasoning": (True, False),  # Command A
    "thinking_mode": ("enabled", "disabled"),  # MiniMax M3
    "thinking_budget": (-1, 0),  # Seed-OSS
}
"""Variables, with their values for on and off."""
_EFFORTS = ("reasoning_effort", "reasoning_strength")
"""Variables for a level: gpt-oss, Solar, Command A, Hunyuan 3, DeepSeek V4; Muse Glimmer."""
_NEAREST: dict[ThinkingEffort, tuple[str, ...]] = {
    "minimal": ("minimal", "low"),
    "low": ("low",),
    "medium": ("medium",),
    "high": ("high",),
    "xhigh": ("xhigh", "max", "high"),
    "max": ("max", "xhigh", "high"),
}
"""What a level becomes in a template that does not name it: the last, which all take."""
_OFF = ("no_think", "none")
"""Levels that mean no thought."""
_OPENS, _CLOSES = re.compile(r"\{[%{]"), re.compile(r"[%}]\}")
_STRINGS = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\"""", re.S)
_NAMES = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
"""Names that stand for themselves, not for a field of a message."""


@lru_cache(16)  # a model's templates, asked with every request
def _variables_of(template: str) -> frozenset[str]:
    """The names that a template's code reads, in one pass: a template may be hostile."""
    found: set[str] = set()
    at = 0
    while opens := _OPENS.search(template, at):
        closes = _CLOSES.search(template, opens.end())
        if closes is None:
            break
        found |= {*_NAMES.findall(_STRINGS.sub("", template[opens.end() : closes.start()]))}
        at = closes.end()
    return frozenset(found)


def names(template: str, variable: str) -> bool:
    """Whether a template reads a variable.

    >>> names("{% if enable_thinking %}", "enable_thinking"), names("{{ m.thinking }}", "thinking")
    (True, False)
    """
    return variable in _variables_of(template)


def can_switch_off(template: str) -> bool:
    """Whether a template has a way to tell the model not to think.

    >>> can_switch_off("{% if enable_thinking %}<think>{% endif %}"), can_switch_off("<think>")
    (True, False)
    """
    if any(names(template, variable) for variable in _SWITCHES):
        return True
    return _takes_effort(template) and any(_quoted(template, level) for level in _OFF)


def variables(request: GenerateRequest, template: str) -> list[dict[str, Any]]:
    """Variables to render a template with, the best first; the others are for one that raises."""
    found = {**_switch(request, template), **_effort(request, template)}
    tries = [found]
    if any(name in found for name in _EFFORTS):
        tries.append({name: value for name, value in found.items() if name not in _EFFORTS})
    if found:
        tries.append({})
    unique = [values for at, values in enumerate(tries) if values not in tries[:at]]
    return [{**values, **request.template_options} for values in unique]


def _switch(request: GenerateRequest, template: str) -> dict[str, Any]:
    thinking = wanted(request)
    found = {
        variable: values[0] if thinking else values[1]
        for variable, values in _SWITCHES.items()
        if thinking is not None and names(template, variable)
    }
    if thinking is not False and request.thinking_budget and names(template, "thinking_budget"):
        found["thinking_budget"] = request.thinking_budget
    return found


def wanted(request: GenerateRequest) -> bool | None:
    """Whether a request wants thoughts; a level alone means that it does."""
    if request.thinking is None and request.thinking_effort is not None:
        return True
    return request.thinking


def _effort(request: GenerateRequest, template: str) -> dict[str, str]:
    thinking, effort = wanted(request), request.thinking_effort
    if thinking is None or not _takes_effort(template):
        return {}
    off = next((level for level in _OFF if _quoted(template, level)), None)
    if thinking is False:
        # Those that cannot be told not to think can be told to think little.
        level: str | None = off or "low"
    elif effort is not None:
        *better, last = _NEAREST[effort]
        level = next((name for name in better if _quoted(template, name)), last)
    else:
        level = "high" if off == "no_think" else None
    if level is None:
        return {}
    return {variable: level for variable in _EFFORTS if names(template, variable)}


def _takes_effort(template: str) -> bool:
    return any(names(template, variable) for variable in _EFFORTS)


def _quoted(template: str, word: str) -> bool:
    return f"'{word}'" in template or f'"{word}"' in template
