"""Jinja sandbox for chat templates, with limits on the size of one operation and of the output.

A template is a program that comes with a model. Jinja's sandbox protects the system, but not the
memory: `'x' * 10**9`, a filter that pads to a billion characters, a replacement of each character
by a long text. Operations that multiply sizes are checked before they run; those that only add are
left to the bounds of `modeldeck.core.runtime.engines.bounds`.

jinja2 comes with the engines, so this module is imported only when a template is compiled.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence, Sized
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

LONGEST = 64 << 20
"""Characters or items that one operation may make: far above a megabyte of text in which a marker
of 30 characters is replaced."""
ARGUMENT = 100_000
"""The largest number that a function, method or filter may be given, as Jinja's own for `range`."""
BITS = 4096
"""Bits of the largest number."""
OUTPUT = 4 << 20
"""Characters of a conversation: four times the largest request."""

INDENT = 64
"""Characters of an indent in JSON: there is one on each line."""

_PERCENT_WIDTH = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(?:\d*\.)?(?:\d{6}|\*)")
_BRACE_WIDTH = re.compile(r"\{[^{}]*:[^{}]*(?:\d{6}|\{)")
"""Widths in formats that pad to 100,000 characters or more, or that are arguments."""
_PADS = frozenset({"do_center", "do_indent", "do_batch", "do_slice", "do_round"})
"""Filters that take a number for a length, or raise ten to the power of it."""
_BY_LINE = frozenset({"expandtabs", "do_indent"})
"""Functions that may write as many characters as their number for each character of the text."""
_REPEATS = frozenset(
    {
        *("replace", "join", "translate"),
        *("do_replace", "do_join", "do_indent", "do_wordwrap", "do_urlize"),
    }
)
"""Functions that may write an argument for each character of the text, or item of the list."""


class TooMuch(jinja2.exceptions.SecurityError):
    """The template would make a value or an output that is too large."""


def compile_template(source: str) -> jinja2.Template:
    """Compile a template with the extras of transformers (utils/chat_template_utils.py)."""
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.filters.update(
        {name: _checked(function) for name, function in environment.filters.items()}
    )
    environment.globals.pop("lipsum")  # text of any length
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


def render(template: jinja2.Template, values: dict[str, Any]) -> str:
    """Render a template. Raises TooMuch, and the errors of the template."""
    pieces: list[str] = []
    length = 0
    for piece in template.generate(**values):
        length += len(piece)
        if length > OUTPUT:
            raise TooMuch(f"it writes more than {OUTPUT} characters")
        pieces.append(piece)
    return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with checks of operations that multiply sizes."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator, unless the result is too large."""
        match operator:
            case "*":
                _check_product(left, right)
            case "**":
                if isinstance(left, int) and isinstance(right, int):
                    _check_bits(left.bit_length() * max(0, right))
            case "+":
                if isinstance(left, Sized) and isinstance(right, Sized):
                    _check_length(len(left) + len(right))
            case "%" if isinstance(left, str):
                _check_width(_PERCENT_WIDTH, left)
        return super().call_binop(context, operator, left, right)

    def call(
        __self,
        __context: Context,
        __obj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a function or method, unless the result is too large."""
        name = getattr(__obj, "__name__", "")
        bound = getattr(__obj, "__self__", None)
        given = [*args, *kwargs.values()]
        if isinstance(bound, (str, bytes, int)):  # such as `'x'.center(10**9)`
            _check_numbers(given)
        _check_arguments(name, bound, given)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` as the sandbox has it, without large widths."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_width(_BRACE_WIDTH, value.__self__)
        return wrapped


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks text for training: its content is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja's extensions have it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Parse the content between the tags."""
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Dict:
    """`dict` without the type itself, as transformers gives it to templates."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """A new object."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """A new object with these keys."""
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """`namespace` without names that begin with an underscore (as in transformers)."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]
        given = dict(*args, **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name[:40]!r}")


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter with checks of its arguments; Jinja's marks on it are kept."""
    begins = int(hasattr(function, "jinja_pass_arg"))
    """Index of the value: after the environment, for filters that get it."""
    # Jinja's own have another name where there is one for asyncio as well.
    name = getattr(function, "__name__", "").removeprefix("sync_")

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        value, rest = args[begins], [*args[begins + 1 :], *kwargs.values()]
        if name in _PADS:
            _check_numbers(rest)
        _check_arguments(name, value, rest)
        if name == "do_format":
            _check_width(_PERCENT_WIDTH, str(value))
        return function(*args, **kwargs)

    return checked


def _check_numbers(arguments: Sequence[Any]) -> None:
    """Refuse a number that is too large for a length."""
    if any(isinstance(a, int) and abs(a) > ARGUMENT for a in arguments):
        raise TooMuch("a function is called with a number that is too large")


def _check_arguments(name: str, value: Any, arguments: Sequence[Any]) -> None:
    """Refuse an argument that is repeated for each part of a value, where that is too long."""
    size = len(value) if isinstance(value, Sized) else 0
    for argument in arguments:
        if isinstance(argument, int) and name in _BY_LINE:
            _check_length(size * abs(argument))
        elif isinstance(argument, Sized) and name in _REPEATS:
            _check_length(size * len(argument))


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for text, times in ((left, right), (right, left)):
        if isinstance(text, Sized) and isinstance(times, int):
            _check_length(len(text) * max(0, times))


def _check_width(pattern: re.Pattern[str], form: str) -> None:
    if pattern.search(form):
        raise TooMuch("a format has a width that is too large, or that is an argument")


def _check_length(length: int) -> None:
    if length > LONGEST:
        raise TooMuch("an operation makes a text or list that is too long")


def _check_bits(bits: int) -> None:
    if bits > BITS:
        raise TooMuch("a number is too large")


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it; Jinja's own escapes it for web pages."""
    if (len(indent) if isinstance(indent, str) else abs(indent or 0)) > INDENT:
        raise TooMuch("an indent is too large")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
