"""Texts of the detail: who the model is, what it needs, and what else is known. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from modeldeck.core.schema import Fit, Forecast, Model, Repository, SearchHit
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.screens.catalog.cells import CellPainter, verdict
from modeldeck.tui.dashboard.screens.catalog.columns import answer_speed
from modeldeck.tui.dashboard.screens.catalog.rows import RowContext
from modeldeck.tui.dashboard.screens.catalog.targets import DetailTarget
from modeldeck.tui.text import capabilities, forecasts, records, sharing
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.bench import per_s

BAR = 15
"""Width in cells of a bar for all that is needed."""
ASKING = "asking the Hub"
"""Note of a repository whose contents are not here yet."""
LABEL = 10
"""Width in cells of the labels."""


@dataclass(frozen=True, slots=True)
class DetailFacts:
    """All data that the pane shows."""

    subject: Model | SearchHit | None = None
    repository: Repository | None = None
    note: str = ""
    """Status of the request for the repository, or its error."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Errors of plans, by the key of the target."""
    choices: Sequence[DetailTarget] = ()
    fits: Mapping[str, Fit] = field(default_factory=dict)
    context: int = 0
    """Context length in tokens that a load would have now."""
    longest: int | None = None
    """The context length that the model was trained for; None where it is not known."""
    room_bytes: int | None = None
    """Free bytes of the budget for models; None where unknown."""
    budget_bytes: int | None = None
    """The budget that the person set for all models; None for none."""
    hub: str = ""
    """Base URL of the Hub, for the page where a licence is accepted."""
    now: RowContext = field(default_factory=RowContext)


@dataclass(frozen=True, slots=True)
class DetailWords:
    """Writes the texts of the pane."""

    facts: DetailFacts
    painter: CellPainter
    key_of: KeyOf
    width: int
    """Cells of a line."""
    tall: bool
    """Whether there is room for a line for each item."""

    # Who it is

    def head(self) -> Text:
        """Its whole name, what it is, and what it can do."""
        facts, muted = self.facts, self.painter.ink("muted")
        subject = facts.subject
        if subject is None:
            return Text("No model selected.", muted)
        name = subject.unique if isinstance(subject, Model) else subject.repo
        text = Text.assemble((fmt.squeeze(fmt.clean(name), self.width), "bold"))
        dot = f" {self.painter.glyphs.dot} "
        known = dot.join(fmt.clean(part) for part in self._known() if part)
        text.append(f"\n{fmt.cut(known, self.width)}", muted)
        able = (
            capabilities.of_model(subject)
            if isinstance(subject, Model)
            else capabilities.of_hit(subject)
        )
        return text.append(f"\n{fmt.cut(capabilities.spelled(able), self.width)}")

    def _known(self) -> list[str | None]:
        """Parameters, licence, revision, trained context."""
        facts, subject = self.facts, self.facts.subject
        assert subject is not None
        repository = facts.repository
        license = subject.license or (repository.license if repository else None)
        return [
            fmt.parameters(subject.parameters) if subject.parameters else None,
            license,
            repository.revision[:8] if repository else None,
            f"trained {fmt.tokens(facts.longest)}" if facts.longest else None,
            "offline copy" if repository and repository.from_cache else None,
        ]

    # What it needs

    def needs(self, choice: DetailTarget | None) -> Text:
        """The context, the memory for it, and the verdict."""
        if choice is None:
            return Text()
        facts, muted = self.facts, self.painter.ink("muted")
        text = self._context()
        fit, why = facts.fits.get(choice.key), facts.notes.get(choice.key)
        forecast = fit.forecast if fit is not None else None
        self._items(text, fit, forecast)
        if fit is None or forecast is None:
            words = why or (fit and fit.reason) or ("not known" if facts.note else "asking")
            self._label(text, "together" if self.tall else "needs")
            return text.append(fmt.clean(words), muted)
        about = "" if fit.exact else "~"
        total = f"{about + fmt.memory(forecast.total_bytes):>8}"
        self._label(text, "together").append(total, "bold").append("  ")
        self._verdict(text, fit)
        source = "exact: asked llama.cpp" if fit.exact else "estimate from file size"
        self._label(text, "").append(forecasts.on_gpu(forecast) or source, muted)
        share = sharing.shared_briefly(fit.parallel, fit.context_length, fit.cache_tokens)
        if share and self.tall:
            self._label(text, "at once").append(share)
        return text

    def _label(self, text: Text, name: str) -> Text:
        if text:
            text.append("\n")
        return text.append(f"{name:<{LABEL}}", self.painter.ink("muted"))

    def _context(self) -> Text:
        """The context, its keys, and the most that the model knows."""
        glyphs, facts = self.painter.glyphs, self.facts
        arrows = {"left": glyphs.left, "right": glyphs.right}
        less, more = (self.key_of(name) for name in ("shorter", "longer"))
        less, more = arrows.get(less, less), arrows.get(more, more)
        most = f"max {fmt.tokens(facts.longest)}" if facts.longest else ""
        text = self._label(Text(), "context").append(f"[ {facts.context} ]  ", "bold")
        long = ", ".join(filter(None, (f"{less} half {more} double", most)))
        room = self.width - text.cell_len
        words = long if fmt.columns(long) <= room else f"{less} {more} {most}"
        return text.append(fmt.cut(words, room), self.painter.ink("muted"))

    def _items(self, text: Text, fit: Fit | None, forecast: Forecast | None) -> None:
        """Memory needs item by item: a line each with a bar, known or not, or a sum on one line."""
        if not self.tall:
            words = forecasts.items(forecast) if forecast is not None and forecast.kv_bytes else ""
            if words and fmt.columns(words) <= self.width - LABEL:
                self._label(text, "needs").append(words)
            return
        glyphs, total = self.painter.glyphs, forecast.total_bytes if forecast else 0
        for name, part in _parts(forecast):
            known = bool(part) or (fit is not None and fit.exact)
            self._label(text, name).append(f"{fmt.memory(part) if known else fmt.UNKNOWN:>8}  ")
            shape = fmt.bar((part or 0) / total if total else 0, BAR, glyphs)
            text.append(shape.rstrip(glyphs.empty), self.painter.ink("primary"))

    def _verdict(self, text: Text, fit: Fit) -> None:
        """Whether it fits, and by how much it does not."""
        forecast, free = fit.forecast, fit.available_bytes
        word, colour = verdict(fit)
        style = self.painter.ink(colour)
        if forecast is None or not word or free is None or forecast.gpu_bytes != 0:
            text.append(word or "whether it fits is not known", style)
        elif word == "budget":
            over = fmt.memory(forecast.total_bytes - free)
            budget = fmt.memory(self.facts.budget_bytes)
            text.append(f"{over} over your budget of {budget}", style)
        elif word == "over":
            text.append("over", style).append(f" by {fmt.memory(forecast.total_bytes - free)}")
        else:
            words = f": {fmt.memory(free)} are free"
            if fmt.columns(text.plain.rsplit("\n", 1)[-1] + word + words) > self.width:
                words = words.replace("are ", "")
            text.append(word, style).append(words)

    # What else is known

    def facts_words(self) -> Text:
        """Its jobs and errors, its speed, its files, and its description."""
        facts, text = self.facts, Text()
        subject = facts.subject
        gated = (subject is not None and subject.gated) or bool(
            facts.repository and facts.repository.gated
        )
        repo = subject.repo if subject else None
        if gated and repo:
            text.append("gated", self.painter.ink("warning")).append(
                f"  Accept the licence at {fmt.clean(facts.hub)}/{fmt.clean(repo)}, and store a"
                " token with `hf auth login`.\n"
            )
        if isinstance(subject, Model):
            self._doing(text, subject)
            self._about(text, subject)
        text.append("\n".join(self._of_hub()), self.painter.ink("muted"))
        if isinstance(subject, Model) and subject.description:
            text.append(f"\n\n{fmt.clean(subject.description, lines=True)}")
        return text

    def _of_hub(self) -> Iterator[str]:
        """What the Hub says of the repository, or why that is not known.

        Both take one line, so that an answer moves no other line.
        """
        facts, subject = self.facts, self.facts.subject
        if facts.note:
            name = subject.repo if subject is not None else None
            note = fmt.clean(facts.note).removeprefix(name or "").lstrip(": ")
            yield fmt.cut(note, self.width)
        popular = facts.repository or (subject if isinstance(subject, SearchHit) else None)
        if popular is not None:
            glyphs = self.painter.glyphs
            numbers = f"{glyphs.down} {fmt.count(popular.downloads)}  {glyphs.liked} "
            yield f"{numbers}{fmt.count(popular.likes)}  {(popular.last_modified or '')[:10]}"

    def _doing(self, text: Text, model: Model) -> None:
        """The job of a model, the result of the last check, and errors."""
        painter, now = self.painter, self.facts.now
        job, instance = now.jobs.get(model.id), now.instances.get(model.id)
        if job is not None and job.state in records.RUNNING_JOBS:
            text.append(f"{painter.glyphs.down} ", painter.ink("accent"))
            text.append(
                f"{job.state} {fmt.size(job.received_bytes)} of {fmt.size(job.total_bytes)}"
            )
            text.append(f"\n  {fmt.rate(job.rate_bytes_per_s)}  {fmt.duration(job.eta_s)} left\n\n")
        if model.id in now.corrupt:
            text.append(f"{painter.glyphs.failed} ", painter.ink("error"))
            drop, fetch = self.key_of("delete"), self.key_of("download")
            text.append(f"Corrupt file: {drop} deletes it, {fetch} downloads it again.\n")
        elif model.id in now.sound and model.downloaded:
            text.append(f"{painter.glyphs.done} ", painter.ink("success"))
            text.append(f"verified at {fmt.clock(now.sound[model.id])}\n")
        for failed in (job, instance):
            if failed is not None and failed.error is not None and not (job and model.downloaded):
                text.append(f"{painter.glyphs.failed} ", painter.ink("error"))
                text.append(f"{fmt.clean(failed.error.message)} {fmt.clean(failed.error.remedy)}\n")

    def _speed(self, model: Model) -> str:
        """Tokens per second in the last benchmark, else in the last answer."""
        if (known := model.measured) is not None:
            rates = ((known.tokens_per_s, ""), (known.prompt_tokens_per_s, "prompt "))
            told = [f"{what}{per_s(rate)} tok/s" for rate, what in rates if rate is not None]
            return ", ".join(told)
        found = answer_speed(self.facts.now.instances.get(model.id))
        return "" if found is None else f"~{per_s(found)} tok/s in the last answer"

    def _update(self, model: Model) -> str:
        """That the Hub has newer files, since when, and the key that downloads them."""
        if (update := model.update_available) is None:
            return ""
        glyphs, day = self.painter.glyphs, fmt.day(update.last_modified)
        since = f" {day}" if day else ""
        gets = f"{self.key_of('download')} gets them"
        return f"{glyphs.newer} new files{since} {glyphs.dot} {gets}"

    def _about(self, text: Text, model: Model) -> None:
        """Speed, file and architecture."""
        path = fmt.clean(model.path or "")
        for name, value in (
            ("speed", self._speed(model)),
            ("update", self._update(model)),
            ("path", path and fmt.squeeze(path, max(20, self.width - LABEL))),
            ("family", fmt.clean(model.architecture or "")),
        ):
            if value:
                text.append(f"{name:<{LABEL}}", self.painter.ink("muted")).append(f"{value}\n")


def _parts(forecast: Forecast | None) -> Sequence[tuple[str, int | None]]:
    """What a load takes, item by item."""
    projector = forecast.projector_bytes if forecast else 0
    return (
        ("weights", forecast.weights_bytes if forecast else None),
        ("KV cache", forecast.kv_bytes if forecast else None),
        ("compute", forecast.compute_bytes if forecast else None),
        *((("projector", projector),) if projector else ()),
        ("overhead", forecast.overhead_bytes if forecast else None),
    )
