"""What a chat template takes is found out, and it is handed that."""

from collections.abc import Sequence
from typing import Literal

import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.text.chat_prompt import CHATML, ChatTemplate
from modeldeck.core.runtime.text.template_probe import TemplateSupport, variants
from modeldeck.core.schema import GenerateRequest, Message, ToolCall

Role = Literal["system", "user", "assistant", "tool", "developer"]

PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
"""As SmolVLM's: a text is walked letter by letter, and none of them is a part."""
EITHER = (
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{% endfor %}"
)
USER_PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'user' %}"
    "{% for part in m.content %}{{ part['text'] }}{% endfor %}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}"
)
PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
STRICT = (
    "{% if messages[0].role == 'system' %}[system]{{ messages[0].content }}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}"
    "{% endfor %}"
)
"""As Mistral's: instructions come first or not at all, and only once."""
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}"
    "{% endfor %}"
)
"""As Gemma's."""
DEAF = (
    "{% for m in messages %}{% if m.role in ('user', 'assistant') %}[{{ m.role }}]{{ m.content }}"
    "{% endif %}{% endfor %}"
)
"""Leaves out instructions, without a word."""
FIRST_ONLY = (
    "{% if messages[0].role == 'system' %}[system]{{ messages[0].content }}{% endif %}" + DEAF
)
KNOWING = PLAIN + "{% if messages[0].role == 'developer' %}{% endif %}"
LOUD = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
ALTERNATING = "{% for m in messages %}{{ m.content | trim }}|{% endfor %}"


def said(*turns: tuple[Role, str]) -> GenerateRequest:
    return GenerateRequest(messages=tuple(Message(role=r, content=c) for r, c in turns))


def written(source: str, *turns: tuple[Role, str]) -> str:
    return ChatTemplate(source, {}).render(said(*turns))


@pytest.mark.parametrize("source", [PARTS, EITHER, USER_PARTS, PLAIN])
def test_a_question_reaches_every_kind_of_template(source: str) -> None:
    turns: Sequence[tuple[Role, str]] = (
        ("system", "Be brief."),
        ("user", "Why?"),
        ("assistant", "So."),
        ("user", "Oh."),
    )
    assert written(source, *turns) == "[system]Be brief.[user]Why?[assistant]So.[user]Oh."


def test_an_answer_of_a_tool_reaches_a_template_of_parts() -> None:
    call = ToolCall(id="abcdefghi", name="f", arguments="{}")
    messages = (
        Message(role="user", content="Why?"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="42", tool_call_id="abcdefghi"),
    )
    text = ChatTemplate(PARTS, {}).render(GenerateRequest(messages=messages))
    assert text == "[user]Why?[assistant][tool]42"


def test_a_template_is_asked_once() -> None:
    asked: list[str] = []
    template = ChatTemplate(PLAIN + "{{ note(messages[-1].content) }}", {"note": asked.append})
    template.render(said(("user", "one")))
    first = len(asked)
    template.render(said(("user", "two")))
    assert asked[first:] == ["two"]


@pytest.mark.parametrize(
    ("source", "turns", "text"),
    [
        (CHATML, [("developer", "D"), ("user", "U")], None),
        (PLAIN, [("developer", "D"), ("user", "U")], "[system]D[user]U"),
        (PLAIN, [("system", "S"), ("developer", "D"), ("user", "U")], "[system]S\n\nD[user]U"),
        (PLAIN, [("developer", "D"), ("system", "S"), ("user", "U")], "[system]D\n\nS[user]U"),
        (PLAIN, [("user", "U"), ("developer", "D"), ("user", "V")], "[user]U[system]D[user]V"),
        (KNOWING, [("developer", "D"), ("user", "U")], "[developer]D[user]U"),
        (PARTS, [("developer", "D"), ("user", "U")], "[system]D[user]U"),
        (STRICT, [("developer", "D"), ("user", "U")], "[system]D[user]U"),
        (STRICT, [("system", "S"), ("developer", "D"), ("user", "U")], "[system]S\n\nD[user]U"),
        (
            STRICT,
            [("user", "U"), ("assistant", "A"), ("developer", "D"), ("user", "V")],
            "[user]U[assistant]A[user]D\n\nV",
        ),
        (
            STRICT,
            [("system", "S"), ("user", "U"), ("assistant", "A"), ("system", "T"), ("user", "V")],
            "[system]S[user]U[assistant]A[user]T\n\nV",
        ),
        (STRICT, [("user", "U"), ("system", "T")], "[user]U\n\nT"),
        (NO_SYSTEM, [("developer", "D"), ("user", "U")], "[user]D\n\nU"),
        (
            NO_SYSTEM,
            [("user", "U"), ("assistant", "A"), ("developer", "D"), ("user", "V")],
            "[user]U[assistant]A[user]D\n\nV",
        ),
        (NO_SYSTEM, [("user", "U"), ("developer", "D")], "[user]U\n\nD"),
        (NO_SYSTEM, [("developer", "D")], "[user]D"),
        (DEAF, [("system", "S"), ("developer", "D"), ("user", "U")], "[user]S\n\nD\n\nU"),
        (DEAF, [("system", "S"), ("user", "U")], "[user]S\n\nU"),
        (
            FIRST_ONLY,
            [("user", "U"), ("assistant", "A"), ("developer", "D"), ("user", "V")],
            "[user]U[assistant]A[user]D\n\nV",
        ),
        (
            FIRST_ONLY,
            [("system", "S"), ("user", "U"), ("assistant", "A"), ("system", "T"), ("user", "V")],
            "[system]S[user]U[assistant]A[user]T\n\nV",
        ),
        (LOUD, [("system", "s"), ("user", "u")], "SU"),
    ],
)
def test_instructions_reach_the_model_whatever_the_template(
    source: str, turns: list[tuple[Role, str]], text: str | None
) -> None:
    found = written(source, *turns)
    if text is None:
        text = written(source, *(("system" if r == "developer" else r, c) for r, c in turns))
        assert "developer" not in found
    assert found == text


def test_a_refusal_of_the_template_stays_one() -> None:
    with pytest.raises(InvalidRequest, match="System role not supported"):
        written(NO_SYSTEM, ("system", "S"), ("user", "U"))
    with pytest.raises(InvalidRequest, match="roles must alternate"):
        written(STRICT, ("user", "U"), ("user", "V"))


def test_a_conversation_without_such_roles_is_as_it_was() -> None:
    messages = said(("system", "S"), ("user", "U")).messages
    assert variants(messages, TemplateSupport()) == [messages]


def test_a_template_that_writes_no_question_is_told_in_the_log(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert written("{{ 'fixed' }}", ("user", "U")) == "fixed"
    assert "does not write what the user says" in capfd.readouterr().err
