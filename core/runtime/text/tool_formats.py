"""Parses the tool-call formats of model families, from their public chat templates. Pure.

A format is a pair of markers with a body in between. The syntax of the body is detected from its
text, not from the markers: models mix the formats they were trained on.
"""

# DeepSeek's markers have full-width bars.
# ruff: noqa: RUF001, RUF002

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Call = tuple[str, Mapping[str, Any]]
"""Name and arguments of a call."""

Texts = Mapping[str, frozenset[str]]
"""The tools by name, each with its parameters of type string, which are never parsed as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """How a family of models marks a call."""

    opens: str
    closes: str | None
    """None where the call extends to the end of the answer."""
    name: str = "name"
    arguments: str = "arguments"
    """Key of the arguments in the JSON; `name` is that of the tool's name."""
    around: tuple[str, str] = ("", "")
    """Text around the JSON when a call is forced: of a list, which may have several calls."""
    written: tuple[str, str, str] | None = None
    """Text before the name, between it and the arguments, and after them, where a call is no JSON
    of both. Forced calls of formats without JSON are JSON as well: models read and write it."""
    encloses_several: bool = False
    """Whether several calls stand between one pair of markers, without a list."""
    shown_by: str = ""
    """Text by which a template shows this form, of several with the same markers."""
    bare: bool = False
    """Whether the markers are themselves part of the call's syntax."""


LLAMA = CallFormat(opens="<|python_tag|>", closes=None, arguments="parameters")
MARKERS: tuple[CallFormat, ...] = (
    # Hermes, Qwen and many others; Qwen3-Coder and GLM write XML between the same markers.
    CallFormat(opens="<tool_call>", closes="</tool_call>"),
    CallFormat(  # Mistral since 2025
        opens="[TOOL_CALLS]", closes=None, written=("", "[ARGS]", ""), shown_by="[ARGS]"
    ),
    CallFormat(opens="[TOOL_CALLS]", closes=None, around=("[", "]")),  # Mistral before
    LLAMA,
    CallFormat(opens="<function_call>", closes="</function_call>"),
    CallFormat(opens="<|tool_call_start|>", closes="<|tool_call_end|>", around=("[", "]")),  # LFM2
    # DeepSeek R1 and V3, then V3.1; some of its answers lack the outer markers.
    CallFormat(
        opens="<｜tool▁calls▁begin｜>",
        closes="<｜tool▁calls▁end｜>",
        written=(
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            "\n```json\n",
            "\n```<｜tool▁call▁end｜>",
        ),
        encloses_several=True,
        shown_by="```json",
    ),
    CallFormat(
        opens="<｜tool▁calls▁begin｜>",
        closes="<｜tool▁calls▁end｜>",
        written=("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
        encloses_several=True,
    ),
    CallFormat(opens="<｜tool▁call▁begin｜>", closes="<｜tool▁call▁end｜>"),
    # DeepSeek V3.2 and V4.
    CallFormat(opens="<｜DSML｜function_calls>", closes="</｜DSML｜function_calls>"),
    CallFormat(opens="<｜DSML｜tool_calls>", closes="</｜DSML｜tool_calls>"),
    CallFormat(  # Kimi K2
        opens="<|tool_calls_section_begin|>",
        closes="<|tool_calls_section_end|>",
        written=(
            "<|tool_call_begin|>functions.",
            ":0<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
        ),
        encloses_several=True,
    ),
    CallFormat(opens="<minimax:tool_call>", closes="</minimax:tool_call>"),
    CallFormat(opens="<seed:tool_call>", closes="</seed:tool_call>"),
    CallFormat(opens="<|tool_call>", closes="<tool_call|>"),  # Gemma 4
    CallFormat(opens="<start_function_call>", closes="<end_function_call>"),  # FunctionGemma
    CallFormat(opens="<|tool_call|>", closes=None, around=("[", "]")),  # Granite 3, Phi-4-mini
    CallFormat(opens="<TOOLCALL>", closes="</TOOLCALL>", around=("[", "]")),  # Nemotron
    CallFormat(
        opens="<tool_calls>", closes="</tool_calls>", around=("[", "]")
    ),  # Apriel, MiniMax-M1
    CallFormat(  # Command R7B and its successors
        opens="<|START_ACTION|>",
        closes="<|END_ACTION|>",
        name="tool_name",
        arguments="parameters",
        around=("[", "]"),
    ),
    # Functionary, and Qwen3-Coder where it forgets the markers around.
    CallFormat(opens="<function=", closes="</function>", bare=True),
)
SIGNS: frozenset[str] = frozenset(
    sign
    for sign in (
        *(marker.opens for marker in MARKERS),
        *(marker.closes for marker in MARKERS),
        *("<｜tool▁sep｜>", "｜DSML｜"),
        *("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
        *("[ARGS]", "[CALL_ID]", '<|"|>', "<escape>", "<|/tool_call|>"),
    )
    if sign
)
"""Markers that may be special tokens: without text they would be missing in the answer."""

_XML = re.compile(r"\s*<function=([^>\s]+)>(.*?)</function>\s*$", re.S)
_INVOKE = re.compile(r'\s*<(?:｜DSML｜)?invoke name="([^"]+)">(.*?)</(?:｜DSML｜)?invoke>\s*', re.S)
_PAIRS = re.compile(r"\s*([^\s<{\[]+)\s*(.*)$", re.S)
CALL_HEAD = re.compile(
    r"""(?: \s* (?: <｜tool▁call▁begin｜> | <\|tool_call_begin\|> | \[TOOL_CALLS\] ) )?
    (?: \s* (?: function \s* <｜tool▁sep｜> | functions\. ) )?
    \s* ([\w.-]+) (?: :\d+ )?
    (?: \s* \[CALL_ID\]\w+ )?
    (?: \s* (?: <｜tool▁sep｜> | <\|tool_call_argument_begin\|> | \[ARGS\] ) )?
    (?: \s* ```json )? \s* (?=\{)""",
    re.X,
)
"""A call that begins with its name, up to its arguments."""
CALL_TAIL = re.compile(r"\s*(?:```)?\s*(?:<｜tool▁call▁end｜>|<\|tool_call_end\|>)?\s*")
_GEMMA = re.compile(r"\s*call:([\w.-]+)(\{.*\})\s*$", re.S)
_GEMMA_TEXT = re.compile(r'<\|"\|>|<escape>')
_GEMMA_KEY = re.compile(r"([{,]\s*)([\w.-]+)\s*:")
_PYTHON_WORDS = {"true": True, "false": False, "null": None}
SOURCE_LENGTH = 1 << 16
"""Characters of calls that are written as Python."""


@dataclass(frozen=True, slots=True)
class _Parameters:
    """Syntax of a sequence of parameters.

    An answer may have any content and length: it is split at the end markers, and each part is
    matched once. A pattern that searches the end markers itself can take hours for one answer.
    """

    opens: re.Pattern[str]
    """The beginning of a parameter: its name, then whether it is a string, where given."""
    closes: re.Pattern[str]

    def read(self, body: str) -> list[tuple[str, bool, str]] | None:
        """Name, whether it is marked as a string, and value of each; None for another syntax."""
        *parts, rest = self.closes.split(body)
        heads = [self.opens.match(part) for part in parts]
        if rest.strip() or not all(heads):
            return None
        return [
            (head[1].strip(), head.re.groups > 1 and head[2] == "true", part[head.end() :])
            for head, part in zip(heads, parts, strict=True)
            if head is not None
        ]


_XML_PARAMETERS = _Parameters(
    re.compile(r"\s*<parameter=([^>\s]+)>\n?"), re.compile(r"\n?</parameter>")
)
_INVOKE_PARAMETERS = _Parameters(
    re.compile(r'\s*<(?:｜DSML｜)?parameter name="([^"]+)"(?: string="(true|false)")?>'),
    re.compile(r"</(?:｜DSML｜)?parameter>"),
)
_PAIR = _Parameters(
    re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>", re.S), re.compile("</arg_value>")
)


def calls_in(body: str, texts: Texts) -> list[Call]:
    """Parse the calls between two markers; empty when the text is no call."""
    body = body.removesuffix("<|/tool_call|>")
    try:
        return _from_json(json.loads(body))
    except ValueError:
        pass
    except RecursionError:
        return []
    readers: tuple[Callable[[], list[Call]], ...] = (
        lambda: _xml(body, texts),
        lambda: _invoked(body, texts),
        lambda: _several(body),
        lambda: _headed(body),
        lambda: _gemma(body),
        lambda: _pairs(body, texts),
        lambda: _python(body),
    )
    return next((found for read in readers if (found := read())), [])


def _from_json(content: Any) -> list[Call]:
    calls: list[Call] = []
    for record in content if isinstance(content, list) else [content]:
        if isinstance(record, dict) and isinstance(record.get("function"), dict):
            record = record["function"]
        if not isinstance(record, dict):
            return []
        name = record.get("name", record.get("tool_name"))
        arguments = record.get("arguments", record.get("parameters"))
        if isinstance(arguments, str):
            arguments = _value(arguments)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return []
        calls.append((name, arguments))
    return calls


def _several(body: str) -> list[Call]:
    """Objects separated by semicolons or newlines, as Llama 3 writes several calls."""
    rest, calls = body.strip(), list[Call]()
    while rest:
        content, end = json_at(rest, 0)
        if not (found := _from_json(content)):
            return []
        calls += found
        rest = rest[end:].lstrip(" \t\r\n;")
    return calls


def _headed(body: str) -> list[Call]:
    """Names, each with its arguments as JSON: Mistral's newer format, DeepSeek's and Kimi's.

    `add[ARGS]{...}`, `function<｜tool▁sep｜>add` and a block of JSON, `functions.add:0` and so on.
    """
    calls, at = list[Call](), 0
    while head := CALL_HEAD.match(body, at):
        arguments, end = json_at(body, head.end())
        if not isinstance(arguments, dict):
            return []
        calls.append((head[1], arguments))
        tail = CALL_TAIL.match(body, end)
        assert tail is not None
        at = tail.end()
    return calls if at == len(body) else []


def _xml(body: str, texts: Texts) -> list[Call]:
    """`<function=add><parameter=a>1</parameter></function>`, or JSON in the place of parameters."""
    if not (found := _XML.match(body)):
        return []
    name, inner = found[1], found[2].strip()
    if inner.startswith("{"):
        arguments = _value(inner)
        return [(name, arguments)] if isinstance(arguments, dict) else []
    given = _XML_PARAMETERS.read(inner)
    return [] if given is None else [(name, _typed(given, texts.get(name)))]


def _invoked(body: str, texts: Texts) -> list[Call]:
    """`<invoke name="add"><parameter name="a">1</parameter></invoke>`, and DeepSeek's with DSML."""
    calls, at = list[Call](), 0
    while found := _INVOKE.match(body, at):
        name, at = found[1], found.end()
        if (given := _INVOKE_PARAMETERS.read(found[2])) is None:
            return []
        calls.append((name, _typed(given, texts.get(name))))
    return calls if at == len(body) else []


def _pairs(body: str, texts: Texts) -> list[Call]:
    """`add<arg_key>a</arg_key><arg_value>1</arg_value>`, as GLM writes it."""
    if not (found := _PAIRS.match(body)) or found[1] not in texts:
        return []
    given = _PAIR.read(found[2])
    return [] if given is None else [(found[1], _typed(given, texts[found[1]]))]


def _gemma(body: str) -> list[Call]:
    """`call:add{a:1,b:<|"|>text<|"|>}`: JSON with bare keys, and a marker for quotes."""
    if not (found := _GEMMA.match(body)):
        return []
    parts = _GEMMA_TEXT.split(found[2])
    parts[::2] = [_GEMMA_KEY.sub(r'\1"\2":', part) for part in parts[::2]]
    parts[1::2] = [json.dumps(part) for part in parts[1::2]]
    arguments = _value("".join(parts))
    return [(found[1], arguments)] if isinstance(arguments, dict) else []


def _python(body: str) -> list[Call]:
    """`[add(a=1), clock()]`, as LFM2 writes it. It is parsed, never run."""
    if len(body) > SOURCE_LENGTH or not body.strip().startswith("["):
        return []
    try:
        whole = ast.parse(body.strip(), mode="eval").body
        nodes = whole.elts if isinstance(whole, ast.List) else []
        return [_python_call(node) for node in nodes]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _python_call(node: ast.expr) -> Call:
    """Parse one call. Raises ValueError for other expressions."""
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("it is no call with names for its arguments")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        for inner in ast.walk(keyword):
            # Templates write what is nested as JSON.
            for field, value in ast.iter_fields(inner):
                found = [_literal(v) for v in value] if isinstance(value, list) else _literal(value)
                setattr(inner, field, found)
        arguments[keyword.arg or ""] = ast.literal_eval(keyword.value)
    return ast.unparse(node.func), arguments


def _literal(value: Any) -> Any:
    """Replace a name such as `true` by the value it has in JSON."""
    if isinstance(value, ast.Name) and value.id in _PYTHON_WORDS:
        return ast.Constant(_PYTHON_WORDS[value.id])
    return value


def _typed(given: Sequence[tuple[str, bool, str]], texts: frozenset[str] | None) -> dict[str, Any]:
    """Values of parameters: parsed as JSON, except strings."""
    return {
        key: value if marked or key in (texts or ()) else _value(value)
        for key, marked, value in given
    }


def json_at(text: str, at: int) -> tuple[Any, int]:
    """Parse JSON at a position; return the value, None for none, and its end."""
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at


def _value(text: str) -> Any:
    """Parse a text as JSON; return the text itself where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
