"""Images and recordings keep their place and order in every dialect's converter."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.api.anthropic.request import MessagesBody
from modeldeck.core.api.anthropic.request import generate_request as of_anthropic
from modeldeck.core.api.examples import IMAGE_BODIES
from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.media_input import decode
from modeldeck.core.api.message_content import UnreadMedia
from modeldeck.core.api.ollama.schema import GenerateBody, OllamaChatBody
from modeldeck.core.api.openai.chat_request import ChatBody
from modeldeck.core.api.openai.chat_request import generate_request as of_chat
from modeldeck.core.api.responses.generate_request import input_items, question
from modeldeck.core.api.responses.request import AnswerBody
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.media_files import media_type
from modeldeck.core.schema import Message

Part = tuple[Literal["text", "image", "audio"], str]
"""What it is, and its text or the word that stands for its bytes."""


def b64(word: str) -> str:
    return base64.b64encode(word.encode()).decode()


def body(type_: Any, **fields: Any) -> Any:
    return convert({"model": "m", **fields}, type_, "The body")


def in_chat(parts: Sequence[Part]) -> Message:
    forms: dict[str, Callable[[str], Any]] = {
        "text": lambda word: {"type": "text", "text": word},
        "image": lambda word: {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{b64(word)}", "detail": "low"},
        },
        "audio": lambda word: {
            "type": "input_audio",
            "input_audio": {"data": b64(word), "format": "wav"},
        },
    }
    content = [forms[kind](word) for kind, word in parts]
    return of_chat(body(ChatBody, messages=[{"role": "user", "content": content}])).messages[-1]


def in_responses(parts: Sequence[Part]) -> Message:
    forms: dict[str, Callable[[str], Any]] = {
        "text": lambda word: {"type": "input_text", "text": word},
        "image": lambda word: {
            "type": "input_image",
            "image_url": f"data:image/png;base64,{b64(word)}",
        },
        "audio": lambda word: {
            "type": "input_audio",
            "input_audio": {"data": b64(word), "format": "mp3"},
        },
    }
    content = [forms[kind](word) for kind, word in parts]
    made = body(AnswerBody, input=[{"role": "user", "content": content}])
    return question(made, input_items(made)).request.messages[-1]


def in_output(parts: Sequence[Part]) -> Message:
    """As Codex sends what its tools gave."""
    content = [
        {"type": "input_text", "text": word}
        if kind == "text"
        else {"type": "input_image", "image_url": f"data:;base64,{b64(word)}"}
        for kind, word in parts
    ]
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": content}
    made = body(AnswerBody, input=[call, output])
    return question(made, input_items(made)).request.messages[-1]


def blocks(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": word}
        if kind == "text"
        else {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": b64(word)},
        }
        for kind, word in parts
    ]


def in_messages(parts: Sequence[Part]) -> Message:
    made = body(MessagesBody, messages=[{"role": "user", "content": blocks(parts)}])
    return of_anthropic(made).messages[-1]


def in_turns(parts: Sequence[Part]) -> Message:
    """Each part in a message of its own; those of one role become one."""
    turns = [{"role": "user", "content": [block]} for block in blocks(parts)]
    return of_anthropic(body(MessagesBody, messages=turns)).messages[-1]


def in_result(parts: Sequence[Part]) -> Message:
    result = {"type": "tool_result", "tool_use_id": "1", "content": blocks(parts)}
    made = body(MessagesBody, messages=[{"role": "user", "content": [result]}])
    return of_anthropic(made).messages[-1]


def flat(message: Message) -> str:
    """The text with each medium as `<kind word>` at its place."""
    texts, at = [], 0
    for media in message.media:
        assert isinstance(media, UnreadMedia)
        assert media.at >= at
        texts += [message.content[at : media.at], f"<{media.kind} {decode(media).decode()}>"]
        at = media.at
    return "".join((*texts, message.content[at:]))


WORDS = st.text("abé", min_size=1, max_size=4)
SEEN = st.lists(st.tuples(st.sampled_from(["text", "image"]), WORDS), min_size=1, max_size=6)
HEARD = st.lists(
    st.tuples(st.sampled_from(["text", "image", "audio"]), WORDS), min_size=1, max_size=6
)


def expected(parts: Sequence[Part]) -> str:
    return "".join(word if kind == "text" else f"<{kind} {word}>" for kind, word in parts)


@pytest.mark.parametrize("into", [in_chat, in_responses])
@given(parts=HEARD)
def test_text_images_and_recordings_keep_their_order(
    into: Callable[[Sequence[Part]], Message], parts: list[Part]
) -> None:
    assert flat(into(parts)) == expected(parts)


@pytest.mark.parametrize("into", [in_output, in_messages, in_turns, in_result])
@given(parts=SEEN)
def test_text_and_images_keep_their_order(
    into: Callable[[Sequence[Part]], Message], parts: list[Part]
) -> None:
    assert flat(into(parts)).replace("\n", "") == expected(parts)


@given(text=WORDS, images=st.lists(WORDS, max_size=3))
def test_ollama_s_images_stand_before_the_text(text: str, images: list[str]) -> None:
    sent = [b64(word) for word in images]
    whole = expected([("image", word) for word in images]) + text
    said = {"role": "user", "content": text, "images": sent}
    assert flat(body(OllamaChatBody, messages=[said]).request().messages[-1]) == whole
    asked = body(GenerateBody, prompt=text, images=sent).request()
    assert flat(asked.messages[-1]) == whole


def test_ollama_s_prompt_may_be_an_image_alone_and_has_no_place_for_one_when_raw() -> None:
    asked = body(GenerateBody, images=[b64("x")]).request()
    assert (asked.messages[-1].content, len(asked.messages[-1].media)) == ("", 1)
    for fields in ({"raw": True}, {"suffix": "b"}):
        with pytest.raises(InvalidRequest, match="raw or suffix"):
            body(GenerateBody, prompt="a", images=[b64("x")], **fields).request()


@pytest.mark.parametrize(
    ("message", "places"),
    [
        (
            in_chat([("text", "a"), ("image", "b"), ("audio", "c")]),
            ["messages[0].content[1]", "messages[0].content[2]"],
        ),
        (in_responses([("image", "b"), ("text", "a")]), ["input[0].content[0]"]),
        (in_output([("text", "a"), ("image", "b")]), ["input[1].output[1]"]),
        (in_messages([("text", "a"), ("image", "b")]), ["messages[0].content[1]"]),
        (in_result([("image", "b")]), ["messages[0].content[0].content[0]"]),
    ],
)
def test_each_has_its_place_in_the_request(message: Message, places: list[str]) -> None:
    assert [media.place for media in message.media] == places


def test_the_documented_examples_hold() -> None:
    def read(name: str, type_: Any) -> Any:
        return convert(IMAGE_BODIES[name], type_, "The body")

    answer = read("responsesCreate", AnswerBody)
    found = [
        of_chat(read("openaiChat", ChatBody)),
        question(answer, input_items(answer)).request,
        of_anthropic(read("anthropicCreate", MessagesBody)),
        read("ollamaChat", OllamaChatBody).request(),
        read("ollamaGenerate", GenerateBody).request(),
    ]
    assert len(found) == len(IMAGE_BODIES)
    for request in found:
        (media,) = request.messages[-1].media
        assert isinstance(media, UnreadMedia)
        assert media_type(decode(media)) == "image/gif"


def test_an_image_url_may_be_a_text_and_a_source_an_address() -> None:
    part = {"type": "image_url", "image_url": "https://example.org/a.png"}
    made = of_chat(body(ChatBody, messages=[{"role": "user", "content": [part]}]))
    block = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    other = of_anthropic(body(MessagesBody, messages=[{"role": "user", "content": [block]}]))
    for message in (made.messages[0], other.messages[0]):
        (media,) = message.media
        assert isinstance(media, UnreadMedia)
        assert media.source == "https://example.org/a.png"
