"""README lists every route, as the table that routes has it, each with a line that works."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from modeldeck.core.api.examples import ANSWERS, BODIES, QUERIES
from modeldeck.core.api.http.router import Route, Router
from modeldeck.core.api.pieces.schema import check
from modeldeck.core.api.route_table import ROUTES
from tests.api_table import GROUPS, README, curl, written

ROUTE_OF = {route.operation_id: route for route in ROUTES}


def taken(kind: Any, value: object) -> None:
    """Raise when the value is not of the type, or holds what the type does not know."""
    if isinstance(kind, str):
        check(value, kind)
        return
    made = msgspec.convert(value, kind, strict=True)
    if isinstance(value, dict) and not isinstance(made, dict):
        assert set(value) <= set(dir(made)), set(value) - set(dir(made))


def test_every_body_and_answer_has_an_example_of_its_own_type() -> None:
    wanted = {r.operation_id for r in ROUTES if r.body is not None}
    assert set(BODIES) == wanted, "core/api/examples.py has an example of each body"
    for name, body in BODIES.items():
        taken(ROUTE_OF[name].body, body)
    for name, answer in ANSWERS.items():
        taken(ROUTE_OF[name].answer, answer)
    for name, query in QUERIES.items():
        assert set(query) <= {field.name for field in ROUTE_OF[name].query}


def test_every_route_has_a_group_and_a_line_that_leads_to_it() -> None:
    router = Router(ROUTES)

    def led_to(route: Route) -> Route:
        words = shlex.split(curl(route))
        method = "POST" if "--json" in words else "GET"
        method = words[words.index("-X") + 1] if "-X" in words else method
        url = next(word for word in words if "localhost" in word)
        parts = urlsplit(url if "://" in url else f"http://{url}")
        assert dict(parse_qsl(parts.query)).keys() == QUERIES.get(route.operation_id, {}).keys()
        headers = [words[words.index("-H") + 1].partition(":")[0]] if "-H" in words else []
        return router.match(method, parts.path or "/", headers)[0]

    tags = {tag for group in GROUPS.values() for tag in group}
    for route in ROUTES:
        assert led_to(route) is route
        assert route.tag in tags, "tests/api_table.py has a heading for each tag"


def test_readme_has_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == written(text), "Bring it up to date: python -m tests.api_table --write"
