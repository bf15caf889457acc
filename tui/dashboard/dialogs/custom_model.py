"""Form for a custom model: from a repository, a file on the Hub, or a local path.

The name is checked while typing; the core validates the form when it is sent, and its error is
shown in the form.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static
from textual.worker import Worker

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Model, ModelSeed, Repository
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.tui.dashboard.interface import DashboardInterface

FORMS = (
    "owner/repo:VARIANT, owner/repo, hf://owner/repo/file.gguf, or a path such as /models/x.gguf"
)
TYPING_S = 0.3
"""Seconds without typing after which the name is checked."""

FIELDS = (
    ("unique", "from", "owner/repo:VARIANT, or a path"),
    ("name", "name", "as the list shows it; empty: the name of the files"),
    ("version", "version", "any words"),
    ("description", "description", "any words"),
)


class CustomForm(ModalScreen[Model | None]):
    """Form that returns the created or changed model; None if cancelled."""

    DEFAULT_CSS = """
    CustomForm {
        align: center middle;
        & > Vertical { width: 88; max-width: 100%; height: auto; max-height: 100%;
                       background: $surface; border: round $primary; padding: 0 1; }
        & Label { color: $text-muted; }
        & Input { background: $panel; &:focus { background: $primary 20%; } }
        & Static { height: auto; min-height: 1; }
        & #custom-check { min-height: 3; }
    }
    CustomForm:ansi Input:focus { background: ansi_default; text-style: underline; }
    CustomForm.-low Label { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", show=False),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
        Binding("ctrl+s", "send", "save", show=False),
    ]

    def __init__(self, dashboard: DashboardInterface, model: Model | None = None) -> None:
        """A form for a new model, or for one that is in the list."""
        super().__init__()
        self._dashboard = dashboard
        self._model = model

    def compose(self) -> ComposeResult:
        """The fields, and the result of the check."""
        model = self._model
        title = f"Edit {fmt.clean(model.name)}" if model else "New custom model"
        with Vertical():
            yield Static(Text(title, "bold"))
            for name, label, hint in FIELDS:
                value = getattr(model, name, "") if model else ""
                yield Label(label, markup=False)
                yield Input(fmt.clean(value), placeholder=hint, compact=True, id=f"custom-{name}")
            yield Static(id="custom-check", markup=False)
            keys = "enter save   ↑ ↓ another field   esc leave"
            keys = fmt.key_words(keys, self._dashboard.glyphs)
            yield Static(Text(keys, no_wrap=True), markup=False)

    def on_mount(self) -> None:
        """Put the focus on the name."""
        self.query_one("#custom-unique", Input).focus()
        self._say("muted", f"Write {FORMS}.")

    def _value(self, name: str) -> str:
        return self.query_one(f"#custom-{name}", Input).value.strip()

    def _say(self, colour: str, words: str) -> None:
        glyphs = self._dashboard.glyphs
        sign = {"success": glyphs.done, "error": glyphs.failed}.get(colour, glyphs.dot)
        style: Style = getattr(ink(self.app.theme_variables), colour)
        text = Text.assemble((f"{sign} ", style), fmt.clean(words))
        self.query_one("#custom-check", Static).update(text)

    # Checks while typing

    @on(Input.Changed, "#custom-unique")
    def _typed(self) -> None:
        unique = self._value("unique")
        _: Worker[None] = self.run_worker(
            partial(self._check, unique), group="check", exclusive=True
        )

    async def _check(self, unique: str) -> None:
        await asyncio.sleep(TYPING_S)
        if not unique:
            self._say("muted", f"Write {FORMS}.")
        elif unique.startswith("/"):
            self._say(*await asyncio.to_thread(look_at_path, Path(unique)))
        else:
            await self._check_repository(*split_name(unique))

    async def _check_repository(self, repo: str, label: str) -> None:
        if repo.count("/") != 1 or repo.startswith("/") or repo.endswith("/"):
            self._say("muted", f"Write {FORMS}.")
            return
        self._say("muted", f"asking the Hub for {repo}")
        try:
            repository = await self._dashboard.link.client.repository(repo)
        except DeckError as error:
            self._say("error", str(error))
        else:
            self._say(*judge_repository(repository, label))

    # Sending

    @on(Input.Submitted)
    def action_send(self) -> None:
        """Save; on an error the form stays and shows it."""
        _: Worker[None] = self.run_worker(self._send, group="send", exclusive=True)

    async def _send(self) -> None:
        client = self._dashboard.link
        try:
            if self._model is None:
                model = await client.client.create_model(self._seed())
            else:
                model = await client.client.update_model(self._model.id, self._changes(self._model))
        except DeckError as error:
            self.workers.cancel_group(self, "check")
            self._say("error", str(error))
        else:
            self.dismiss(model)

    def _seed(self) -> ModelSeed:
        return ModelSeed(
            unique=self._value("unique") or None,
            name=self._value("name") or None,
            version=self._value("version") or None,
            description=self._value("description"),
        )

    def _changes(self, model: Model) -> dict[str, str]:
        values = {name: self._value(name) for name, _, _ in FIELDS}
        return {name: text for name, text in values.items() if text != getattr(model, name)}

    def action_leave(self) -> None:
        """Close without saving."""
        self.dismiss(None)


def split_name(unique: str) -> tuple[str, str]:
    """Split a name into repository, and variant or file (empty if there is none).

    The core's grammar is stricter; this only finds the repository to ask for.
    """
    name = unique.removeprefix("hf://")
    if name != unique or "://" in name:
        parts = name.split("://")[-1].split("/")
        parts = parts[1:] if "://" in name else parts
        return "/".join(parts[:2]).partition("@")[0], parts[-1] if len(parts) > 2 else ""
    repo, _, label = name.partition(":")
    return repo, label


def judge_repository(repository: Repository, label: str) -> tuple[str, str]:
    """Check the variant against the repository; return the name of a style, and a message."""
    variants = {v.label or v.unique: v for v in repository.variants}
    if not variants:
        return "error", f"{repository.repo} holds neither GGUF files nor an MLX model."
    for name, variant in variants.items():
        files = {file.path for file in variant.files}
        if label and (label.casefold() == name.casefold() or label in files):
            return "success", f"{variant.unique}, {fmt.size(variant.size_bytes)}"
    if label:
        return "error", f"There is no {label}. It has: {', '.join(variants)}."
    if len(variants) == 1:
        (only,) = variants.values()
        return "success", f"{only.unique}, {fmt.size(only.size_bytes)}"
    return (
        "warning",
        f"Choose a variant, as {repository.repo}:LABEL. It has: {', '.join(variants)}.",
    )


def look_at_path(path: Path) -> tuple[str, str]:
    """Check a local path; return the name of a style, and a message. Blocks."""
    try:
        if path.is_dir():
            if (path / "config.json").exists():
                return "success", "a folder with an MLX model, by its config.json"
            return "warning", "a folder; an MLX model has a config.json in it"
        if path.is_file():
            size = fmt.size(path.stat().st_size)
            with path.open("rb") as stream:
                gguf = stream.read(4) == b"GGUF"
            return ("success", f"a GGUF file, {size}") if gguf else ("error", "not a GGUF file")
    except OSError as error:
        return "error", f"{path}: {error.strerror}"
    return "error", f"There is nothing at {path}."
