"""The chat template that a model on disk brings, and what can be read from it without an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from modeldeck.core.errors import Corrupt, StorageFailed
from modeldeck.core.formats import gguf
from modeldeck.core.runtime.engines.chat import knows_tools
from modeldeck.core.schema import Format
from modeldeck.core.storage.foreign_files import read_regular

LONGEST = 1 << 20
"""Bytes of a template, or of the file that holds it; the longest met are some 10 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a model wants a conversation written: Jinja."""

    text: str

    @property
    def takes_tools(self) -> bool:
        """Whether it has a place for tools."""
        return knows_tools(self.text)


def read(path: Path, format: Format) -> Template | None:
    """The template of a model; None where it brings none, or what lies there cannot be read.

    Blocks. GGUF keeps it in the header; Hub folders in `chat_template.jinja`, older ones in
    `tokenizer_config.json` (transformers, `PreTrainedTokenizerBase.save_chat_templates`).
    """
    try:
        text = _in_folder(path) if format == "mlx" else _in_header(path)
    except (Corrupt, StorageFailed, OSError):
        return None  # loading it tells what is wrong with it
    return Template(text=text) if text else None


def _in_header(path: Path) -> str | None:
    return gguf.read(path).text("tokenizer.chat_template")


def _in_folder(folder: Path) -> str | None:
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        try:
            text = read_regular(folder / name, LONGEST).decode("utf-8", "replace")
        except OSError:  # not there, too long, or not a file
            continue
        return text if name.endswith(".jinja") else _configured(text)
    return None


def _configured(text: str) -> str | None:
    """The template in a tokenizer's configuration: one, or several by name."""
    try:
        found = msgspec.json.decode(text, type=_TokenizerConfig).chat_template
    except msgspec.DecodeError:
        return None
    if isinstance(found, list):
        named = {template.name: template.template for template in found}
        return named.get("tool_use") or named.get("default")
    return found


class _NamedTemplate(msgspec.Struct):
    name: str
    template: str


class _TokenizerConfig(msgspec.Struct):
    chat_template: str | list[_NamedTemplate] | None = None
