"""Images keep their places through a chat template, and no text is taken for one."""

from __future__ import annotations

import doctest

import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.media import media_prompt
from modeldeck.core.runtime.media.media_prompt import (
    SHOWN,
    MediaSigns,
    forged_signs,
    media_of,
    refuse_media,
)
from modeldeck.core.runtime.text.chat_prompt import CHATML, ChatTemplate
from modeldeck.core.schema import GenerateRequest, Message, Tool, ToolCall
from tests.support.pictures import image, recording


def rendered(request: GenerateRequest, template: str = CHATML) -> list[str | int]:
    signs = MediaSigns(media_of(request))
    return signs.split(ChatTemplate(template, {}).render(signs.marked(request)))


def conversation() -> GenerateRequest:
    return GenerateRequest(
        messages=(
            Message(role="user", content="abc", media=(image(b"1", 0), image(b"2", 2))),
            Message(role="assistant", content="yes"),
            Message(role="user", content="and", media=(image(b"3", 3), image(b"4", 3))),
        )
    )


def test_images_stand_where_they_stood_in_any_turn() -> None:
    assert rendered(conversation()) == [
        "<|im_start|>user\n",
        0,
        "ab",
        1,
        "c<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>user\nand",
        2,
        3,
        "<|im_end|>\n<|im_start|>assistant\n",
    ]


def test_a_template_that_wants_lists_of_parts_gets_the_place_in_the_text() -> None:
    parts = (
        "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}"
        "{% if part.type == 'text' %}{{ part.text | trim }}{% else %}<image>{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    request = GenerateRequest(
        messages=(Message(role="user", content="a b", media=(image(b"1", 2),)),)
    )
    assert rendered(request, parts) == ["[user]a ", 0, "b"]


def test_no_text_is_taken_for_an_image() -> None:
    signs = MediaSigns((image(b"1"),), secret="known")
    forged = f"{SHOWN} qzxjotherx0x <image>"
    message = Message(role="user", content=forged, media=(image(b"1", len(forged)),))
    marked = signs.marked(GenerateRequest(messages=(message,)))
    assert signs.split(marked.messages[0].content) == [forged, 0]
    others = {MediaSigns(()).marked(conversation()).messages[0].content for _ in range(8)}
    assert len(others) == 8


def test_the_name_of_a_token_for_images_is_cut_and_shown_whole() -> None:
    text = "<|image_pad|> [IMG] <b> <img src='a'> [0] <|im_end|> <IMAGE> <img>"
    request = GenerateRequest(messages=(Message(role="user", content=text),))
    assert forged_signs(request) == ("<|image_pad|>", "[IMG]", "<IMAGE>", "<img>")
    forged = "<image>a<image><image>"
    asked = GenerateRequest(
        messages=(Message(role="user", content=forged, media=(image(b"1", 10),)),)
    )
    signs = MediaSigns(media_of(asked), ("<image>", "<image><image>"))
    content = signs.marked(asked).messages[0].content
    assert signs.split(content) == ["<", "image>a<i", 0, "mage><", "image>"]
    assert signs.shown(content) == f"<image>a<i{SHOWN}mage><image>"


TOOLS = (
    "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{{ note }}"
    "{% for m in messages %}{{ m.role }}: {{ m.reasoning_content or '' }} {{ m.content }}"
    "{% for call in m.tool_calls %}{{ call.id }} {{ call.function.name }} "
    "{{ call.function.arguments | tojson }}{% endfor %}{{ m.tool_call_id }}\n{% endfor %}"
)


@pytest.mark.parametrize(
    "arguments", ['{"<image>": ["<image>"]}', r'{"\u003cimage>": ["<im\u0061ge\u003E"]}']
)
def test_tools_calls_and_thoughts_forge_no_token_either(arguments: str) -> None:
    schema = {"type": "object", "properties": {"<image>": {"enum": ["a", "<image>"]}}}
    call = ToolCall(id="<image>", name="<image>", arguments=arguments)
    request = GenerateRequest(
        messages=(
            Message(role="user", content="go"),
            Message(role="assistant", thought="<image>", tool_calls=(call,)),
            Message(role="tool", content="<image>", tool_call_id="<image>"),
        ),
        tools=(Tool(name="<image>", description="<image>", parameters=schema),),
        template_options={"note": "<image>"},
    )
    assert forged_signs(request) == ("<image>",)
    template = ChatTemplate(TOOLS, {})
    signs = MediaSigns((), forged_signs(request))
    text = template.render(signs.marked(request))
    shown = template.render(request)
    assert shown.count("<image>") == 12, "the template writes all of them"
    assert "<image>" not in text
    assert signs.shown(text) == shown
    assert not any("<image>" in str(part) for part in signs.split(text))


def test_what_forges_nothing_stays_as_it_was_written() -> None:
    call = ToolCall(id="1", name="look", arguments=r'{"at":  "\u003cb> \/"}')
    tool = Tool(name="look", parameters={"type": "object"})
    asked = Message(role="assistant", tool_calls=(call,))
    request = GenerateRequest(messages=(asked,), tools=(tool,))
    assert MediaSigns((), ("<image>",)).marked(request) == request


def test_the_example_in_the_documentation_holds() -> None:
    result = doctest.testmod(media_prompt)
    assert result.attempted
    assert not result.failed


def test_an_image_that_the_template_leaves_out_is_told() -> None:
    last = "{{ messages[-1].content }}"
    with pytest.raises(InvalidRequest, match=r"leaves out what stands at messages\[0\]"):
        rendered(conversation(), last)


def test_a_prompt_is_shown_without_the_signs() -> None:
    signs = MediaSigns(media_of(conversation()))
    shown = signs.shown(signs.marked(conversation()).messages[0].content)
    assert shown == f"{SHOWN}ab{SHOWN}c"


def test_an_engine_that_reads_text_only_says_what_it_refuses() -> None:
    request = GenerateRequest(messages=(Message(role="user", media=(recording(b"1"),)),))
    with pytest.raises(InvalidRequest, match=r"recording at messages\[0\]\.content\[1\] cannot"):
        refuse_media(request)
    refuse_media(GenerateRequest(messages=(Message(role="user", content="a"),)))
