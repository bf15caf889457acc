"""Tools of a request, and the names that the model knows them by. Pure.

The model only knows functions. A custom tool becomes one with the text argument `input`; a function
inside a namespace gets the name of both, `NAMESPACE__NAME`. A call is answered under the names that
the client sent. Hosted tools (`web_search` and the like) are left out: programs send them unasked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.openai.shared_fields import MODES, choice_mode
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Tool

LONGEST_NAME = 128
"""Characters of a tool's name, as the model gets it."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SEPARATOR = "__"

ToolKind = Literal["function", "custom"]

TEXT_ARGUMENT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""Arguments of a custom tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTarget:
    """A tool as the client calls it."""

    name: str
    kind: ToolKind = "function"
    namespace: str | None = None
    syntax: Any = None
    """Of a custom tool whose input has a grammar: `lark` or `regex`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as it is sent."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """True to hold the arguments of a function to its schema also where the model calls it by
    itself; what cannot be enforced is refused then."""
    format: dict[str, Any] | None = None
    """Of a custom tool: the grammar that its input has. A regular expression is enforced. A grammar
    in Lark is told to the model, and refused for a tool that `tool_choice` forces."""
    tools: list[dict[str, Any]] | None = None
    """Of a namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputGrammar:
    """The grammar of a custom tool's input."""

    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOffer:
    """The tools that the model gets."""

    tools: tuple[Tool, ...] = ()
    choice: str | None = None
    """As in `GenerateRequest.tool_choice`."""
    targets: Mapping[str, ToolTarget] = field(default_factory=dict)
    """The client's names by the model's."""

    def target(self, name: str) -> ToolTarget:
        """The tool that the model means; some leave a namespace out."""
        if (found := self.targets.get(name)) is not None:
            return found
        meant = [target for target in self.targets.values() if target.name == name]
        return meant[0] if len(meant) == 1 else ToolTarget(name=name)


def model_name(target: ToolTarget) -> str:
    """The name that the model knows a tool by.

    >>> model_name(ToolTarget(name="close", namespace="agents"))
    'agents__close'
    """
    if target.namespace is None:
        return target.name
    name = f"{target.namespace}{_SEPARATOR}{target.name}"
    if len(name) <= LONGEST_NAME:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9]}_{mark}"


def offer(
    specs: Sequence[Mapping[str, Any]] | None, choice: str | Mapping[str, Any] | None
) -> ToolOffer:
    """The tools that the model gets, and which of them it must call. Raises InvalidRequest."""
    tools: dict[str, Tool] = {}
    targets: dict[str, ToolTarget] = {}
    for target, tool in _tools(specs or (), None, "tools"):
        # A tool that is sent again replaces the one before: history may bring it once more.
        tools[tool.name], targets[tool.name] = tool, target
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        allowed = _allowed(choice, targets)
        tools = {name: tool for name, tool in tools.items() if name in allowed}
        targets = {name: target for name, target in targets.items() if name in allowed}
        mode = choice.get("mode")
        choice = mode if isinstance(mode, str) else "auto"
    return ToolOffer(tools=tuple(tools.values()), choice=_choice(choice, targets), targets=targets)


def _tools(
    specs: Iterable[Mapping[str, Any]], namespace: str | None, what: str
) -> Iterator[tuple[ToolTarget, Tool]]:
    for number, given in enumerate(specs):
        spec = convert(given, ToolSpec, f"{what}[{number}]")
        if spec.type == "namespace" and namespace is None:
            name = _checked(spec.name, f"{what}[{number}]")
            yield from _tools(spec.tools or (), name, f"{what}[{number}].tools")
        elif spec.type == "function" or spec.type == "custom":
            name = _checked(spec.name, f"{what}[{number}]")
            kind: ToolKind = "custom" if spec.type == "custom" else "function"
            target = ToolTarget(
                name=name,
                kind=kind,
                namespace=namespace,
                syntax=(spec.format or {}).get("syntax") if kind == "custom" else None,
            )
            yield target, _tool(spec, model_name(target))


def _checked(name: str | None, what: str) -> str:
    if name is None:
        raise InvalidRequest(f"{what} has no name.", "Send it beside type, not below function.")
    if not _NAME.fullmatch(name) or name in MODES:
        raise InvalidRequest(
            f"{what} cannot be called {name[:140]!r}.",
            f"A name has up to {LONGEST_NAME} letters, digits, dots, dashes and underscores.",
        )
    return name


def _tool(spec: ToolSpec, name: str) -> Tool:
    description = spec.description or ""
    if spec.type == "function":
        return Tool(
            name=name,
            description=description,
            parameters=spec.parameters or {},
            strict=bool(spec.strict),
        )
    given = spec.format or {}
    if given.get("type", "text") == "text":
        return Tool(name=name, description=description, parameters=dict(TEXT_ARGUMENT))
    form = convert(given, InputGrammar, f"The format of the tool {name[:64]!r}")
    description += f"\n\nThe input follows this grammar ({form.syntax}):\n{form.definition}"
    parameters = dict(TEXT_ARGUMENT)
    if form.syntax == "regex":
        text = {**TEXT_ARGUMENT["properties"]["input"], "pattern": f"^(?:{form.definition})$"}
        parameters["properties"] = {"input": text}
    return Tool(
        name=name,
        description=description.strip(),
        parameters=parameters,
        strict=form.syntax == "regex",
    )


def _choice(
    choice: str | Mapping[str, Any] | None, targets: Mapping[str, ToolTarget]
) -> str | None:
    """The tool choice of the request to an engine. Raises InvalidRequest."""
    if choice is None:
        return None
    if isinstance(choice, str):
        mode = choice_mode(choice, has_tools=bool(targets))
        if mode == "required" and all(target.syntax == "lark" for target in targets.values()):
            raise _not_enforced(next(iter(targets.values())))
        return mode
    kind = str(choice.get("type"))
    if kind not in ("function", "custom"):
        raise InvalidRequest(
            f"tool_choice of type {kind[:40]!r} is not supported.",
            "Hosted tools do not run here; name a function or a custom tool.",
        )
    found = _named(choice, targets)
    if kind == "custom" and found and targets[found[0]].syntax == "lark":
        raise _not_enforced(targets[found[0]])
    if not found:
        name = str(choice.get("name"))[:140]
        raise InvalidRequest(f"tool_choice names no tool: {name!r}.", "Name one of the tools.")
    return found[0]


def _not_enforced(target: ToolTarget) -> InvalidRequest:
    """The error for a forced tool whose input has a grammar in Lark."""
    return InvalidRequest(
        f"tool_choice forces {target.name[:140]!r}, whose grammar in Lark cannot be enforced.",
        "Give its format as a regular expression, or leave the choice to the model.",
    )


def _named(choice: Mapping[str, Any], targets: Mapping[str, ToolTarget]) -> list[str]:
    """The model's names of the tools that a choice may mean."""
    space = choice.get("namespace")
    return [
        name
        for name, target in targets.items()
        if choice.get("name") in (target.name, name) and space in (None, target.namespace)
    ]


def _allowed(choice: Mapping[str, Any], targets: Mapping[str, ToolTarget]) -> set[str]:
    """The model's names of `allowed_tools`. Raises InvalidRequest."""
    allowed = choice.get("tools")
    if not isinstance(allowed, list):
        raise InvalidRequest("tool_choice has no list of tools.", "Send the tools that it allows.")
    found: set[str] = set()
    for each in allowed:
        if not isinstance(each, dict):
            raise InvalidRequest("tool_choice.tools is not a list of tools.")
        if each.get("type") == "namespace":
            space = each.get("name")
            found |= {name for name, target in targets.items() if target.namespace == space}
        else:
            found |= set(_named(each, targets))
    return found


def text_input(arguments: str) -> str:
    """The text of a custom tool's call, from the arguments that the model wrote.

    >>> text_input('{"input": "ls"}'), text_input("ls")
    ('ls', 'ls')
    """
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    if isinstance(found, dict) and isinstance(found.get("input"), str):
        return str(found["input"])
    return found if isinstance(found, str) else arguments


def text_arguments(text: str) -> str:
    """The arguments of a call of a custom tool with this text."""
    return json.dumps({"input": text}, ensure_ascii=False)
