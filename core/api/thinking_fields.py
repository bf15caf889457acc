"""What the spellings of "think, and how much" in requests mean. Pure.

Each dialect has several: a level of effort, a switch, a number of tokens. `none` is off, any other
level is on; what is not said is left to the model.
"""

from __future__ import annotations

from typing import Any, get_args

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import ThinkingEffort

EFFORTS: tuple[str, ...] = get_args(ThinkingEffort)
OFF = ("none", "off", "disabled")


def thinking_fields(
    *, switch: bool | None = None, effort: str | None = None, budget: int | None = None
) -> dict[str, Any]:
    """Fields of a `GenerateRequest`. Raises InvalidRequest for an unknown level.

    Args:
        switch: Whether it shall think; None where nothing is said.
        effort: A level, or a word for off or on.
        budget: Most tokens of thought; 0 switches it off, below 0 is no limit.

    >>> thinking_fields(effort="high")
    {'thinking': True, 'thinking_effort': 'high', 'thinking_budget': None}
    >>> thinking_fields(effort="none")["thinking"], thinking_fields()["thinking"]
    (False, None)
    """
    level = (effort or "").strip().lower() or None
    if level is not None and level not in (*EFFORTS, *OFF, "on", "auto", "default"):
        raise InvalidRequest(
            f"The effort of thinking cannot be {level[:40]!r}.",
            f"It is none, {', '.join(EFFORTS)}.",
        )
    if switch is None and level is not None and level not in ("auto", "default"):
        switch = level not in OFF
    if budget is not None and budget <= 0:
        switch = False if budget == 0 and switch is None else switch
        budget = None if budget < 0 else budget
    return {
        "thinking": switch,
        "thinking_effort": level if switch is not False and level in EFFORTS else None,
        "thinking_budget": budget,
    }


def switch_in(variables: dict[str, Any] | None) -> bool | None:
    """The switch among variables of a template. Raises InvalidRequest for one that is no bool."""
    for name in ("enable_thinking", "thinking"):
        value = (variables or {}).get(name)
        if value is not None and not isinstance(value, bool):
            raise InvalidRequest(f"{name} in chat_template_kwargs is true or false.")
        if value is not None:
            return value
    return None
