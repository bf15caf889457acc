"""What an answer must follow, in the spellings of OpenAI, llama-server and vLLM. Pure.

Sources: https://platform.openai.com/docs/guides/structured-outputs, tools/server/README.md of
github.com/ggml-org/llama.cpp, https://docs.vllm.ai/en/latest/features/structured_outputs.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from modeldeck.core.errors import InvalidRequest

STRUCTURES = ("json_schema", "regex", "grammar")
"""Fields of a `GenerateRequest` for what its answer must follow; one of them at most."""
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredOutputs:
    """vLLM's form: exactly one of its fields is set."""

    json: str | dict[str, Any] | None = None
    """JSON Schema, as an object or as text."""
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    structural_tag: Any = None
    """Refused."""

    def fields(self) -> dict[str, Any]:
        """Fields of a `GenerateRequest`. Raises InvalidRequest."""
        if self.structural_tag is not None:
            raise InvalidRequest(
                "structural_tag of structured_outputs is not supported.",
                "Send json, regex, choice or grammar.",
            )
        schema = schema_in(self.json)
        return structure(
            schema={} if self.json_object and schema is None else schema,
            regex=self.regex,
            choice=self.choice,
            grammar=self.grammar,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSchema:
    """A JSON Schema and its name."""

    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    """False to follow the schema as far as it can be enforced; else the rest is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """The format of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: NamedSchema | None = None
    schema: dict[str, Any] | None = None
    """The schema, as llama-server has it."""

    @property
    def is_strict(self) -> bool:
        """Whether a schema with a keyword that cannot be enforced is refused."""
        return self.json_schema is None or self.json_schema.strict is not False

    def fields(self) -> dict[str, Any]:
        """Fields of a `GenerateRequest`. Raises InvalidRequest."""
        if self.type == "text":
            return {}
        named = self.json_schema.schema if self.json_schema is not None else None
        schema = self.schema if named is None else named
        if self.type == "json_object":
            return structure(schema=schema or {})
        if schema is None:
            raise InvalidRequest("response_format has no json_schema.schema.", "Send the schema.")
        return structure(schema=schema)


def schema_in(given: str | dict[str, Any] | None) -> dict[str, Any] | None:
    """A JSON Schema that may have been sent as text. Raises InvalidRequest.

    >>> schema_in('{"type": "object"}')
    {'type': 'object'}
    """
    if not isinstance(given, str):
        return given
    try:
        return msgspec.json.decode(given, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The JSON schema is not JSON: {error}.", "Send an object.") from error


def structure(
    *,
    schema: dict[str, Any] | None = None,
    regex: str | None = None,
    choice: list[str] | None = None,
    grammar: str | None = None,
) -> dict[str, Any]:
    """Fields of a `GenerateRequest` for what an answer must follow; those that are None are left.

    >>> structure(choice=["yes", "no"])
    {'grammar': 'root ::= "yes" | "no"'}
    """
    if choice is not None:
        if not choice or not all(choice):
            raise InvalidRequest("A choice has one text at least, and none is empty.")
        ways = " | ".join('"' + "".join(_ESCAPES.get(c, c) for c in way) + '"' for way in choice)
        return one_structure(
            structure(schema=schema, regex=regex, grammar=grammar), {"grammar": f"root ::= {ways}"}
        )
    found = {"json_schema": schema, "regex": regex, "grammar": grammar or None}
    return one_structure(*({name: form} for name, form in found.items() if form is not None))


def one_structure(*forms: dict[str, Any]) -> dict[str, Any]:
    """The only form that is there, if any. Raises InvalidRequest for several different ones."""
    found = [form for form in forms if form]
    if any(form != found[0] for form in found[1:]):
        raise InvalidRequest(
            "The answer cannot follow several of a grammar, a JSON schema, a regex and a choice.",
            "Send one of them.",
        )
    return found[0] if found else {}
