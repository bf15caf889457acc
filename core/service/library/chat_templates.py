"""Chat templates of models on disk, and what can be told from them without an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from modeldeck.core.errors import Corrupt, StorageFailed
from modeldeck.core.formats import gguf_parser
from modeldeck.core.runtime.text.chat_prompt import knows_tools, thinks
from modeldeck.core.runtime.text.thinking_switches import can_switch_off
from modeldeck.core.schema import Format
from modeldeck.core.storage.foreign_files import read_regular

KEY = "tokenizer.chat_template"
"""Where a GGUF file has it."""
LONGEST = 1 << 20
"""Maximum bytes of a template, or of its file; the longest known have some 10 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A model's chat template in Jinja."""

    text: str

    @property
    def takes_tools(self) -> bool:
        """Whether the template can render tools."""
        return knows_tools(self.text)

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers, or can."""
        return thinks(self.text)

    @property
    def always_thinks(self) -> bool:
        """Whether the model cannot be told not to think."""
        return self.thinks and not can_switch_off(self.text)


def capabilities(template: Template | None) -> tuple[str, ...]:
    """What a template has a place for, as in `Model.capabilities`."""
    if template is None:
        return ()
    found = {
        "tools": template.takes_tools,
        "thinking": template.thinks,
        "always_thinking": template.always_thinks,
    }
    return tuple(name for name, has in found.items() if has)


def read(path: Path, format: Format) -> Template | None:
    """Read the template of a model; None if it has none, or its files cannot be read.

    Blocks. GGUF has it in the header; Hub folders in `chat_template.jinja`, older ones in
    `tokenizer_config.json` (transformers, `PreTrainedTokenizerBase.save_chat_templates`).
    """
    try:
        text = _from_folder(path) if format == "mlx" else _from_header(path)
    except (Corrupt, StorageFailed, OSError):
        return None  # loading reports the error
    return Template(text=text) if text else None


def _from_header(path: Path) -> str | None:
    return gguf_parser.read(path).text(KEY)


def _from_folder(folder: Path) -> str | None:
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        try:
            text = read_regular(folder / name, LONGEST).decode("utf-8", "replace")
        except OSError:  # missing, too long, or not a regular file
            continue
        return text if name.endswith(".jinja") else _from_tokenizer_config(text)
    return None


def _from_tokenizer_config(text: str) -> str | None:
    """Return the template in a tokenizer's configuration, which has one, or several by name."""
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
