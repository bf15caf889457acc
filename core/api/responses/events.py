"""The pieces of an answer become items and events, in the order that OpenAI's clients expect.

A pure state machine: the same pieces give the same events. Items follow each other: thoughts, the
message, calls. `ping` gives signs of life, which have numbers as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import msgspec
from msgspec import UNSET, structs

from modeldeck.core.api.http.messages import event
from modeldeck.core.api.openai.chat_request import TokenForm
from modeldeck.core.api.responses.answer import (
    AnswerEvent,
    AnswerFailure,
    AnswerObject,
    AnswerStatus,
    AnswerUsage,
    AnyItem,
    CustomCallItem,
    FunctionCallItem,
    IncompleteDetails,
    ItemStatus,
    MessageItem,
    OutputText,
    ThoughtItem,
    ThoughtText,
    new_id,
)
from modeldeck.core.api.responses.items import thought_token
from modeldeck.core.api.responses.tools import ToolOffer, text_input
from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Chunk, ToolCall


class AnswerEvents:
    """Makes the events of one answer, and the answer itself."""

    def __init__(
        self,
        begun: AnswerObject,
        offer: ToolOffer,
        *,
        encrypted: bool = False,
        ids: Callable[[str], str] = new_id,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Begin an answer.

        Args:
            begun: The answer without any output.
            offer: The tools that the model got.
            encrypted: Whether thoughts are sent encoded as well.
            ids: Makes the id of an item from the prefix of its kind.
            now: Seconds since the epoch.
        """
        self._begun = begun
        self._offer = offer
        self._encrypted = encrypted
        self._ids = ids
        self._now = now
        self._number = 0
        self._output: list[AnyItem] = []
        self._open: MessageItem | ThoughtItem | None = None
        self._place_json = b""
        """Where the open item stands, as JSON without its braces."""
        self._texts: list[str] = []
        self._logprobs: list[TokenForm] = []
        self._ended: AnswerObject | None = None

    @property
    def answer(self) -> AnswerObject:
        """The answer as it is now; in the end the whole one."""
        if self._ended is not None:
            return self._ended
        return replace(self._begun, output=self._so_far("in_progress"))

    def ping(self) -> bytes | None:
        """A sign of life: the opening, or how far the answer is; None within an item.

        Clients take the repeated event before the first item only.
        """
        if not self._number:
            return self.opening()
        if self._output or self._open is not None or self._ended is not None:
            return None
        return self._event(f"response.{self._begun.status}", response=self._begun)

    def begin(self) -> bytes:
        """That an answer which was queued is being made; nothing for any other."""
        if self._begun.status != "queued" or self._ended is not None:
            return b""
        data = b"" if self._number else self.opening()
        self._begun = replace(self._begun, status="in_progress")
        return data + self._event("response.in_progress", response=self._begun)

    def add(self, chunk: Chunk) -> bytes:
        """The events of a piece; those of the last piece end the answer.

        One that was queued is being made from its first piece on, which may be empty.
        """
        data = self.begin() or (b"" if self._number else self.opening())
        if chunk.thought:
            data += self._add_thought(chunk.thought)
        if chunk.text or chunk.logprobs:
            data += self._add_text(chunk)
        if chunk.finish_reason is not None:
            data += self._finish(chunk)
        return data

    def failed(self, error: DeckError) -> bytes:
        """The end of an answer that failed."""
        return self._broken_off("failed", "response.failed", error=AnswerFailure.of(error))

    def cancelled(self) -> bytes:
        """The end of an answer that was called off."""
        return self._broken_off("cancelled", "response.incomplete")

    def _broken_off(self, status: AnswerStatus, kind: str, **more: Any) -> bytes:
        if self._ended is not None:
            return b""
        data = b"" if self._number else self.opening()
        output = self._so_far("incomplete")
        self._ended = replace(self._begun, status=status, output=output, **more)
        return data + self._event(kind, response=self._ended)

    def opening(self) -> bytes:
        """The first two events: that there is an answer, and whether it is queued."""
        return self._event("response.created", response=self._begun) + self._event(
            f"response.{self._begun.status}", response=self._begun
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        told = AnswerEvent(type=kind, sequence_number=self._number, **fields)
        self._number += 1
        return event(msgspec.json.encode(told), kind)

    # The open item

    def _so_far(self, status: ItemStatus) -> list[AnyItem]:
        """The items, the open one as far as it has come."""
        return [*self._output, *([] if self._open is None else [self._whole(status)])]

    def _whole(self, status: ItemStatus) -> AnyItem:
        """The open item with its text."""
        assert self._open is not None
        text = "".join(self._texts)
        if isinstance(self._open, MessageItem):
            content = [OutputText(text=text, logprobs=list(self._logprobs))]
            return MessageItem(id=self._open.id, status=status, content=content)
        more = {"encrypted_content": thought_token(text)} if self._encrypted else {}
        return ThoughtItem(
            id=self._open.id,
            status=status,
            summary=[ThoughtText(type="summary_text", text=text)],
            content=[ThoughtText(type="reasoning_text", text=text)],
            **more,
        )

    def _place(self) -> dict[str, Any]:
        """Where the open item stands, as its events have it."""
        assert self._open is not None
        place = {"item_id": self._open.id, "output_index": len(self._output)}
        index = "content_index" if isinstance(self._open, MessageItem) else "summary_index"
        return {**place, index: 0}

    def _begin(self, item: MessageItem | ThoughtItem) -> bytes:
        data = self._close("completed")
        self._open = item
        self._place_json = msgspec.json.encode(self._place())[1:-1]
        data += self._event("response.output_item.added", output_index=len(self._output), item=item)
        if isinstance(item, MessageItem):
            part: Any = OutputText(text="")
            return data + self._event("response.content_part.added", **self._place(), part=part)
        part = ThoughtText(type="summary_text", text="")
        return data + self._event(
            "response.reasoning_summary_part.added", **self._place(), part=part
        )

    def _add_thought(self, text: str) -> bytes:
        data = b""
        if not isinstance(self._open, ThoughtItem):
            data = self._begin(ThoughtItem(id=self._ids("rs"), status="in_progress"))
        self._texts.append(text)
        return data + self._delta("response.reasoning_summary_text.delta", text)

    def _add_text(self, chunk: Chunk) -> bytes:
        data = b""
        if not isinstance(self._open, MessageItem):
            data = self._begin(MessageItem(id=self._ids("msg"), status="in_progress"))
        self._texts.append(chunk.text)
        logprobs = b"[]"
        if chunk.logprobs:
            tokens = [TokenForm.of(token) for token in chunk.logprobs]
            self._logprobs += tokens
            logprobs = msgspec.json.encode(tokens)
        more = b',"logprobs":' + logprobs
        return data + self._delta("response.output_text.delta", chunk.text, more)

    def _delta(self, kind: str, text: str, more: bytes = b"") -> bytes:
        """The event of a piece of text, as `_event` would write it.

        An answer has one for each token, so only what differs is encoded.
        """
        number, self._number = self._number, self._number + 1
        name = kind.encode()
        return (b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b,"delta":%b%b}\n\n') % (
            name,
            name,
            number,
            self._place_json,
            msgspec.json.encode(text),
            more,
        )

    def _close(self, status: ItemStatus) -> bytes:
        """End the open item, if there is one."""
        if self._open is None:
            return b""
        item, place = self._whole(status), self._place()
        text = "".join(self._texts)
        if isinstance(item, MessageItem):
            part = item.content[0]
            data = self._event(
                "response.output_text.done", **place, text=text, logprobs=part.logprobs
            )
            data += self._event("response.content_part.done", **place, part=part)
        else:
            assert isinstance(item, ThoughtItem)
            data = self._event("response.reasoning_summary_text.done", **place, text=text)
            data += self._event(
                "response.reasoning_summary_part.done", **place, part=item.summary[0]
            )
        self._open, self._texts, self._logprobs = None, [], []
        return data + self._done(item)

    def _done(self, item: AnyItem) -> bytes:
        index = len(self._output)
        self._output.append(item)
        return self._event("response.output_item.done", output_index=index, item=item)

    # The end

    def _finish(self, last: Chunk) -> bytes:
        cut = last.finish_reason == "length"
        data = self._close("incomplete" if cut else "completed")
        calls = last.tool_calls if self._begun.parallel_tool_calls else last.tool_calls[:1]
        for call in calls:
            half = cut and not call.complete
            # Half a patch or command in plain text could be carried out; half of JSON cannot.
            if not half or self._offer.target(call.name).kind != "custom":
                data += self._call(call, "incomplete" if half else "completed")
        if not self._output:
            data += self._begin(MessageItem(id=self._ids("msg"), status="in_progress"))
            data += self._close("incomplete" if cut else "completed")
        self._ended = replace(
            self._begun,
            status="incomplete" if cut else "completed",
            output=list(self._output),
            completed_at=None if cut else int(self._now()),
            incomplete_details=IncompleteDetails() if cut else None,
            usage=AnswerUsage.of(last),
        )
        kind = "response.incomplete" if cut else "response.completed"
        return data + self._event(kind, response=self._ended)

    def _call(self, call: ToolCall, status: Literal["completed", "incomplete"]) -> bytes:
        """The events of a call."""
        target = self._offer.target(call.name)
        common: dict[str, Any] = {
            "status": status,
            "call_id": call.id,
            "name": target.name,
            "namespace": target.namespace or UNSET,
        }
        if target.kind == "custom":
            text = text_input(call.arguments)
            return self._called(CustomCallItem(id=self._ids("ctc"), input=text, **common))
        arguments = call.arguments
        return self._called(FunctionCallItem(id=self._ids("fc"), arguments=arguments, **common))

    def _called(self, item: FunctionCallItem | CustomCallItem) -> bytes:
        """The events of a finished call."""
        index = len(self._output)
        place = {"item_id": item.id, "output_index": index}
        if isinstance(item, FunctionCallItem):
            kind, whole = "response.function_call_arguments", item.arguments
            begun: AnyItem = structs.replace(item, status="in_progress", arguments="")
            told = {"name": item.name, "arguments": whole}
        else:
            kind, whole = "response.custom_tool_call_input", item.input
            begun = structs.replace(item, status="in_progress", input="")
            told = {"input": whole}
        data = self._event("response.output_item.added", output_index=index, item=begun)
        data += self._event(f"{kind}.delta", **place, delta=whole)
        data += self._event(f"{kind}.done", **place, **told)
        return data + self._done(item)

    # Once more

    def again(self, answer: AnswerObject) -> bytes:
        """The events of an answer that is at its end, each text in one piece."""
        data = self.opening()
        for item in answer.output:
            if isinstance(item, FunctionCallItem | CustomCallItem):
                data += self._called(item)
                continue
            if isinstance(item, MessageItem):
                text, self._encrypted = item.content[0].text, False
                data += self._begin(MessageItem(id=item.id, status="in_progress"))
                self._logprobs = item.content[0].logprobs
                kind, more = "response.output_text.delta", {"logprobs": self._logprobs}
            else:
                text, self._encrypted = item.content[0].text, item.encrypted_content is not UNSET
                data += self._begin(ThoughtItem(id=item.id, status="in_progress"))
                kind, more = "response.reasoning_summary_text.delta", {}
            self._texts = [text]
            data += self._event(kind, **self._place(), delta=text, **more)
            data += self._close(item.status)
        kind = {"completed": "completed", "failed": "failed"}.get(answer.status, "incomplete")
        return data + self._event(f"response.{kind}", response=answer)


def replayed(answer: AnswerObject) -> bytes:
    """The events of an answer that is at its end, as if it were streamed once more."""
    begun = replace(
        answer,
        status="in_progress",
        output=[],
        usage=None,
        completed_at=None,
        incomplete_details=None,
        error=None,
    )
    return AnswerEvents(begun, ToolOffer()).again(answer)
