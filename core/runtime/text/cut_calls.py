"""Finds the calls of an answer that ended at its token limit, in the middle of a call. Pure.

Only calls with their arguments in JSON are found; of others it cannot be told where a value ends.
"""

from __future__ import annotations

import json
import re

from modeldeck.core.runtime.text.tool_formats import CALL_HEAD, CALL_TAIL, json_at

_KEYED = re.compile(
    r"""\s* [\[,;]? \s* \{
    (?: \s* "type" \s* : \s* "function" \s* , )?
    (?: \s* "function" \s* : \s* \{ )?
    \s* "(?: name | tool_name )" \s* : \s* "([\w.-]+)" \s* ,
    \s* "(?: arguments | parameters )" \s* : \s* (?=\{)""",
    re.X,
)
"""A call in JSON, up to its arguments."""
_KEYED_TAIL = re.compile(r"\s*\}*")


def cut_calls(body: str) -> list[tuple[str, str]]:
    """Names and arguments of the calls; empty where the text is no call, or has no arguments yet.

    The arguments are JSON, except those of the last call: they end where the answer ended.

    >>> cut_calls('{"name": "add", "arguments": {"a": 1')
    [('add', '{"a": 1')]
    >>> cut_calls('add[ARGS]{"a": 1}sub[ARGS]{"b')
    [('add', '{"a": 1}'), ('sub', '{"b')]
    >>> cut_calls('{"name": "add", "arg')
    []
    """
    for begins, ends in ((_KEYED, _KEYED_TAIL), (CALL_HEAD, CALL_TAIL)):
        if calls := _read(body, begins, ends):
            return calls
    return []


def _read(body: str, begins: re.Pattern[str], ends: re.Pattern[str]) -> list[tuple[str, str]]:
    calls, at = list[tuple[str, str]](), 0
    while head := begins.match(body, at):
        arguments, end = json_at(body, head.end())
        if not isinstance(arguments, dict):
            return [*calls, (head[1], body[head.end() :])]
        calls.append((head[1], json.dumps(arguments, ensure_ascii=False)))
        tail = ends.match(body, end)
        assert tail is not None
        at = tail.end()
    return calls
