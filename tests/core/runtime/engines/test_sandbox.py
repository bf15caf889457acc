"""Chat templates that would fill the memory, or never end, are refused; others are not changed."""

import time
from typing import Any

import jinja2
import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.sandbox import OUTPUT, TooMuch, compile_template, render
from modeldeck.core.runtime.text.chat_prompt import ChatTemplate
from modeldeck.core.schema import GenerateRequest, Message

USER = GenerateRequest(messages=(Message(role="user", content="Hello"),))


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * 'x' }}",
        "{{ ([0] * 1000000000) | length }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ (2 ** 4000) * (2 ** 4000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%(a)-01000000000d' % {'a': 1} }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, '1000000000') }}",
        "{{ '{a:{b}}'.format(a=1, b=1000000000) }}",
        "{{ 'x'.center(1000000000) }}",
        "{{ 'x'.zfill(width=1000000000) }}",
        "{{ 'x'.ljust(1000000000) | length }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ 'x' | indent(1000000000, first=true) }}",
        "{{ ('x\n' * 50000) | indent(90000) }}",
        "{{ ('\t' * 50000).expandtabs(90000) }}",
        "{{ [1] | batch(1000000000, 0) | list }}",
        "{{ [1] | tojson(indent=1000000000) }}",
        "{{ [1] | tojson(indent='x' * 100000) }}",
        "{{ 1.5 | round(1000000000, 'floor') }}",
        "{{ (1).to_bytes(1000000000, 'big') | length }}",
        "{{ lipsum(n=1000000000) }}",
        "{% set a = 'x' * 100000 %}{{ a.replace('x', a) | length }}",
        "{% set a = 'x' * 100000 %}{{ a | replace('x', a) | length }}",
        "{% set a = 'x' * 100000 %}{{ a.join(a) | length }}",
        "{% set a = 'x' * 100000 %}{{ a | join(a) | length }}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}"
        "{% set n.s = n.s + n.s %}{% endfor %}",
        "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% for i in range(100001) %}{% endfor %}",
        "{{ namespace(_x=1) }}",
        "{{ dict.__subclasses__() }}",
    ],
)
def test_what_multiplies_is_refused(source: str) -> None:
    started = time.thread_time()
    with pytest.raises((jinja2.exceptions.TemplateError, OverflowError, TypeError)):
        render(compile_template(source), {})
    assert time.thread_time() - started < 5  # before it is done, not after


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ '=' * 40 }}", "=" * 40),
        ("{{ [1, 2] + [3] }} {{ 'a' + 'b' }} {{ 2 * 3 + 2 ** 10 }}", "[1, 2, 3] ab 1030"),
        ("{{ '%05.2f|%s|%%' % (3.14159, '*') }}", "03.14|*|%"),
        ("{{ '**{}** {:>8}'.format('a', 'b') }}", "**a**        b"),
        ("{{ '%s-%3d' | format('a', 7) }}", "a-  7"),
        ("{{ 7 % 4 }}", "3"),
        ("{{ 'a\nb' | indent(4) }}", "a\n    b"),
        ("{{ {'a': [1, '<é>']} | tojson(indent=2) }}", '{\n  "a": [\n    1,\n    "<é>"\n  ]\n}'),
        ("{{ '</think>x'.split('</think>')[-1] | trim }}", "x"),
        ("{{ ['a', 'b'] | join(', ') }}", "a, b"),
        ("{{ [{'a': 1}, {'a': 2}] | map(attribute='a') | list }}", "[1, 2]"),
        ("{{ [{'r': 'u'}, {'r': 's'}] | selectattr('r', 'equalto', 's') | list }}", "[{'r': 's'}]"),
        ("{{ dict(a=1).items() | list }}{{ dict.fromkeys('a') }}", "[('a', 1)]{'a': None}"),
        ("{% generation %}said{% endgeneration %}", "said"),
        ("{% set n = namespace(a=1) %}{% set n.a = n.a + 1 %}{{ n.a }}", "2"),
        ("{% for i in range(5) %}{% if i > 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% set n = namespace(a=2000000) %}{{ n.a + (x | default(3000000)) }}", "5000000"),
        ("{{ ('w ' * 100000).split('<|a_separator_of_some_length|>') | length }}", "1"),
        ("{{ 'long ' * 30000 | int }}", "long " * 30000),
    ],
)
def test_what_templates_do_is_as_it_was(source: str, text: str) -> None:
    assert render(compile_template(source), {}) == text


def test_a_large_conversation_is_written() -> None:
    content = "word </think>\n" * 70_000
    source = "{{ messages[0].content.replace('</think>', '').split('\n') | join('\n') | trim }}"
    assert len(content) < OUTPUT
    assert render(compile_template(source), {"messages": [{"content": content}]})


LOOPS: dict[str, str] = {
    "loops in loops": "{% for i in range(99999) %}" * 4 + "{% endfor %}" * 4,
    "a text that doubles": "{% set n = namespace(s='x') %}{% for i in range(99) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "lists in lists": "{% set n = namespace(s=[1]) %}{% for i in range(99999) %}"
    "{% set n.s = [n.s, 'x' * 99999] %}{% endfor %}",
    "a text for each letter": "{% set a = 'x' * 100000 %}"
    "{{ a | list | map('replace', 'x', a) | join(a) }}",
    "a macro that calls itself": "{% macro m(x) %}{{ m(x) }}{{ m(x) }}{% endmacro %}{{ m(1) }}",
}


@pytest.mark.parametrize("kind", LOOPS)
def test_a_template_without_an_end_is_a_refusal(kind: str) -> None:
    template = ChatTemplate(LOOPS[kind], {})
    values: dict[str, Any] = {"cpu_s": 1.0, "memory_bytes": 128 << 20}
    with pytest.raises(InvalidRequest, match="chat template"):
        Flag().bounds.run("The model's chat template", lambda: template.render(USER), **values)


def test_too_much_is_told_in_words() -> None:
    with pytest.raises(InvalidRequest, match="operation makes a text or list that is too long"):
        ChatTemplate("{{ 'x' * 1000000000 }}", {}).render(USER)
    with pytest.raises(TooMuch, match="writes more than"):
        render(compile_template("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}"), {})
