"""Conversion between our Model records and the documented Model. Pure.

A documented Model has three kinds of fields: those of our record (name, size, whether it is
downloaded), those derived from it (family, usage), and those that a client set
(`Model.documented`), which take precedence. Every outgoing value is checked against its schema: the
published SDKs cannot read a list with one invalid entry, so an invalid field is left out.

Enum values: an SDK fails on values newer than itself (Python up to 4.4), so derived values are
among those of the oldest one, 2.7.0. Values set by a client are stored, and left out only in
responses to an SDK that is too old for them (`for_sdk`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from modeldeck.core.api.pieces.schema import INT64, SCHEMAS, check, problem, resolve, timestamp
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Model, ModelSeed

Document = dict[str, Any]
"""A documented object, as JSON types."""

Version = tuple[int, int]
"""Major and minor version of an SDK."""

KEPT = (
    *("type", "usage", "foundation", "provider", "parameters", "quantization"),
    *("maxTokens", "capabilities", "bytes", "ram", "cpu"),
)
"""Fields that clients may set, and that only the documented API shows."""

PLAIN = ("name", "description", "version")
"""Fields that clients may set, and that are fields of our record."""

SPEED_BELOW = 5.0
ACCURACY_FROM = 14.0
"""Billions of parameters: below the first a model is `SPEED`, from the second `ACCURACY`."""

NOT_LANGUAGE = frozenset(
    (
        *("OCR", "VIDEO_OCR", "CODE_CLASSIFICATION", "TEXT_VS_CODE", "TEXT_VS_CODE_SEGMENTATION"),
        *("TAGIFY_CODE", "TAGIFY_COLOR_FROM_CODE", "TLP_TAG_SEARCH", "TLP_NEURAL_CODE_SEARCH"),
    )
)
"""Usages of other models than language models: `delete/cache` refuses those."""

SINCE: Mapping[str, Mapping[str, Version]] = {
    "foundation": dict.fromkeys(
        (
            *("GEMINI_2", "CLAUDE_4", "CODESTRAL_LATEST", "DEEPSEEK_LATEST", "LLAVA_LATEST"),
            *("MIXTRAL_LATEST", "MISTRAL_LATEST", "ORCA_LATEST", "QWEN_CODER_LATEST"),
            *("QWEN_LATEST", "QWQ_LATEST", "STARCODER_LATEST", "TINYLLAMA_LATEST"),
            *("VICUNA_LATEST", "WIZARD_LATEST", "ZEPHYR_LATEST", "POTION"),
        ),
        (4, 4),
    )
    | dict.fromkeys(["MSFT_AZURE_OPEN_AI_LATEST", "AWS_BEDROCK_LATEST"], (5, 0)),
    "provider": {"MINISHLABS": (4, 4), "MSFT_AZURE_OPEN_AI": (5, 0), "AWS_BEDROCK": (5, 0)},
}
"""Enum values added after 2.7.0, and the SDK version that added each."""

FAMILIES: tuple[tuple[re.Pattern[str], str | None, str | None], ...] = tuple(
    (re.compile(pattern), provider, foundation)
    for pattern, provider, foundation in (
        (r"deepseek|nemotron", None, None),
        (r"smol_?lm", "HUGGING_FACE", None),
        (r"code-?gemma.*7b", "GOOGLE", "CODE_GEMMA_7B"),
        (r"code-?gemma.*2b", "GOOGLE", "CODE_GEMMA_2B"),
        (r"gemma-?2.*9b", "GOOGLE", "GEMMA_2_9B"),
        (r"embedding-?gemma", "GOOGLE", None),
        (r"gemma", "GOOGLE", "GEMMA_LATEST"),
        (r"code-?llama.*7b", "META", "CODE_LLAMA_2_7B"),
        (r"code-?llama.*13b", "META", "CODE_LLAMA_2_13B"),
        (r"code-?llama.*70b", "META", "CODE_LLAMA_2_70B"),
        (r"llama-?2.*7b", "META", "LLAMA_2_7B"),
        (r"llama-?2.*13b", "META", "LLAMA_2_13B"),
        (r"llama-?2.*70b", "META", "LLAMA_2_70B"),
        (r"llama-?3(?![.]).*8b", "META", "LLAMA_3_8B"),
        (r"llama-?3(?![.]).*70b", "META", "LLAMA_3_70B"),
        (r"llama-?[34]", "META", "LLAMA_LATEST"),
        (r"phi-?2(?![0-9])", "MICROSOFT", "PHI_2"),
        (r"phi-?3-?mini", "MICROSOFT", "PHI_3_MINI"),
        (r"phi-?3-?small", "MICROSOFT", "PHI_3_SMALL"),
        (r"(?<![a-z])phi-?[0-9]", "MICROSOFT", "PHI_LATEST"),
        (r"mixtral.*8x22b", None, "MIXTRAL_8_x_22B"),
        (r"mixtral.*8x7b", None, "MIXTRAL_8_x_7B"),
        (r"mistral-?7b", None, "MISTRAL_7B"),
        (r"granite.*(?<![0-9])3b", "IBM", "GRANITE_3B"),
        (r"granite.*(?<![0-9])8b", "IBM", "GRANITE_8B"),
        (r"granite", "IBM", "GRANITE_LATEST"),
        (r"gpt-?oss", "OPENAI", "GPT_LATEST"),
        (r"starcoder.*15", "BIGCODE", "STARCODER_15.5B"),
        (r"starcoder", "BIGCODE", None),
        (r"starling.*7b", None, "STARLING_7B"),
        (r"snowflake", "SNOWFLAKE", None),
        (r"(?<![a-z])jina", "JINA", None),
    )
)
"""Pattern of the lower-case name, provider, foundation; the first match counts. All of 2.7.0."""

_PROPERTIES = SCHEMAS["Model"]["properties"]
_AGENT = re.compile(r"OpenAPI-Generator/(\d{1,4})\.(\d{1,4})\.\d+/python")


def document(
    model: Model, *, downloading: bool = False, loaded: bool = False, ram_bytes: int | None = None
) -> Document:
    """The documented Model of a record; it is always valid by its schema.

    Args:
        model: The record.
        downloading: Whether a download of it is running.
        loaded: Whether it is in memory now.
        ram_bytes: Its measured memory; None when it is not loaded or not measured.
    """
    cloud = is_cloud(model)
    made: Document = {
        "id": model.id,
        "name": _text(model.name),
        "version": _text(model.version) or "1",
        "created": {"value": _moment(model.created_at)},
        "cloud": cloud,
        "type": _type(model),
        "usage": _usage(model),
        "description": _text(model.description),
        **_family(model),
        "cpu": model.format == "gguf",
        "custom": model.custom,
        "downloaded": model.downloaded and not cloud,
        "downloading": downloading and not cloud,
        "loaded": loaded and not cloud,
    }
    if (unique := unique_of(model)) is not None:
        made["unique"] = _text(unique)
    if model.quantization:
        made["quantization"] = _text(model.quantization)
    if model.parameters is not None and math.isfinite(model.parameters):
        made["parameters"] = model.parameters
    if (size := _bytes(model.size_bytes)) is not None:
        made["bytes"] = size
    if (ram := _bytes(ram_bytes)) is not None:
        made["ram"] = ram
    if model.context_length is not None and model.context_length in INT64:
        made["maxTokens"] = {"total": model.context_length}
    if "vision" in (*model.usage, *model.capabilities):
        made["capabilities"] = {"images": True}
    return _overlaid(made, model.documented)


def _overlaid(made: Document, documented: Mapping[str, Any]) -> Document:
    """The document with the fields that a client set, where those are valid."""
    for name in KEPT:
        value = documented.get(name, "UNKNOWN")
        if value == "UNKNOWN" or problem(value, _PROPERTIES[name]) is not None:
            continue
        if value is None:  # a number that a client cleared
            made.pop(name, None)
        else:
            made[name] = value
    return made


def sdk_version(user_agent: str | None) -> Version | None:
    """Version of the client's SDK, if it is one that fails on unknown enum values.

    Python's sends `OpenAPI-Generator/4.4.0/python`; TypeScript's accepts any value.
    """
    found = _AGENT.match(user_agent) if user_agent else None
    return (int(found[1]), int(found[2])) if found else None


def for_sdk(made: Document, version: Version | None) -> Document:
    """The document without enum values that are too new for an SDK; `made` itself if none is."""
    if version is None:
        return made
    late = [
        field
        for field, since in SINCE.items()
        if field in made and since.get(made[field], version) > version
    ]
    return {name: value for name, value in made.items() if name not in late} if late else made


def is_cloud(model: Model) -> bool:
    """Whether the model is at a remote provider: never downloaded, never loaded."""
    return model.documented.get("cloud") is True


def unique_of(model: Model) -> str | None:
    """The unique name for clients; None for a custom model without one."""
    return None if model.unique.startswith("custom:") else model.unique


# From clients


def checked(body: Any, name: str) -> Mapping[str, Any]:
    """A body, checked against the schema of this name. Raises InvalidRequest."""
    if body is None:
        raise InvalidRequest("The body is missing.", f"Send a {name} as JSON.")
    check(body, name)
    found: Mapping[str, Any] = body
    return found


def seed(body: Mapping[str, Any]) -> ModelSeed:
    """The ModelSeed of a checked SeededModel.

    `downloaded`, `custom`, `denied`, `organization` and `schema` are ignored.
    """
    documented = {name: value for name in KEPT if (value := _stored(body, name)) is not None}
    if body["cloud"]:
        documented["cloud"] = True
    return ModelSeed(
        unique=(body.get("unique") or "").strip() or None,
        name=body["name"].strip() or None,
        version=body["version"],
        description=body.get("description") or "",
        created_at=_moment(body["created"]["value"]),
        documented=documented,
    )


def changes(model: Model, shown: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of our record by a checked Model; empty if there are none.

    Clients send whole objects, so a field counts as changed only if it differs from the document
    that the client has read (`shown`): else the first update would store all derived values. Absent
    fields stay; null clears a number that may be null. State and fields that clients cannot set
    (`created`, `cloud`, `custom`, ...) are ignored.
    """
    changed = {
        name: body[name] for name in PLAIN if body.get(name, shown.get(name)) != shown.get(name)
    }
    unique = (body.get("unique") or "").strip()
    if unique and unique != shown.get("unique"):
        changed["unique"] = unique
    documented = dict(model.documented)
    for name in KEPT:
        if name == "ram" and shown.get("loaded"):
            continue  # measured, so it differs from what the client read
        if body.get(name, "") is None:
            if shown.get(name) is not None:
                documented[name] = None
        elif (value := _stored(body, name)) is not None and value != shown.get(name):
            documented[name] = value
    if documented != model.documented:
        changed["documented"] = documented
    return changed


def _stored(body: Mapping[str, Any], name: str) -> Any:
    """A checked field of a body as it is stored; None for no value.

    Of an object only the properties of its schema are stored, without the `schema` marker, which no
    client needs and older ones may not be able to read. `UNKNOWN` is no value: 3.x fails on it.
    """
    value = body.get(name)
    if value == "UNKNOWN":
        return None
    if not isinstance(value, dict):
        return value
    known = resolve(_PROPERTIES[name])["properties"]
    required = resolve(_PROPERTIES[name]).get("required", ())
    return {
        key: item
        for key, item in value.items()
        if key in known and key != "schema" and (item is not None or key in required)
    }


# Derived from a record


def _type(model: Model) -> str:
    if model.parameters is None or not math.isfinite(model.parameters):
        return "BALANCED"
    if model.parameters < SPEED_BELOW:
        return "SPEED"
    return "ACCURACY" if model.parameters >= ACCURACY_FROM else "BALANCED"


def _usage(model: Model) -> str:
    if not model.generates_text:
        return "TEXT_EMBEDDING"
    return "CODE_GENERATION" if model.usage[:1] == ("code",) else "CODE_CONVERSATION"


def _family(model: Model) -> Document:
    """Provider and foundation, where the oldest SDK has values for them."""
    repo = (model.repo or "").split("/")[-1]
    text = f"{repo[:100]} {model.name[:100].replace(' ', '-')}".lower()
    for pattern, provider, foundation in FAMILIES:
        if pattern.search(text):
            found = {"provider": provider, "foundation": foundation}
            return {key: value for key, value in found.items() if value is not None}
    return {}


def _text(text: str) -> str:
    """The text with lone surrogates replaced, which file names can contain and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _moment(text: str) -> str:
    """A time in a format that every SDK reads: ISO 8601, UTC, ending in Z."""
    try:
        return timestamp(text).isoformat().replace("+00:00", "Z")
    except ValueError:
        return "1970-01-01T00:00:00Z"


def _bytes(size: int | None) -> Document | None:
    if size is None or size < 0 or size not in INT64:
        return None
    return {"value": size, "readable": readable(size)}


def readable(size: int) -> str:
    """A byte count with a unit, by powers of 1000 like the Hub.

    >>> readable(105_454_432)
    '105.5 MB'
    """
    if size < 1000:
        return f"{size} B"
    power = min(len(f"{size}") - 1, 18) // 3
    return f"{size / 1000**power:.1f} {' kMGTPE'[power]}B"
