from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from modeldeck.core.api.pieces.routes import OPERATIONS, ROUTES
from modeldeck.core.api.pieces.schema import DOCUMENT, SCHEMAS, check, timestamp
from modeldeck.core.errors import InvalidRequest

MODEL: dict[str, Any] = {
    "id": "a",
    "name": "n",
    "version": "1",
    "created": {"value": "2026-01-01T00:00:00Z"},
    "cloud": False,
    "type": "SPEED",
    "usage": "OCR",
}


def test_the_document_is_openapi() -> None:
    validate({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, **DOCUMENT})


def test_every_operation_of_the_document_has_its_route() -> None:
    assert len(ROUTES) == 12
    assert {route.operation_id for route in ROUTES} == set(OPERATIONS)
    by_id = {route.operation_id: route for route in ROUTES}
    assert by_id["modelsCreateNewModel"].body == "SeededModel"
    assert by_id["modelsCreateNewModel"].answer == "Model"
    assert by_id["unloadModels"].status == 204
    assert [r.operation_id for r in ROUTES if r.socket] == ["modelSpecificModelDownloadProgress"]
    assert all(route.error_style == "text" for route in ROUTES)
    for route in ROUTES:
        for name in (route.body, route.answer):
            assert name is None or name in SCHEMAS


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": 1}, "name"),
        ({"cloud": "false"}, "cloud"),
        ({"cloud": 1}, "cloud"),
        ({"type": "FAST"}, "type"),
        ({"type": ["SPEED"]}, "type"),
        ({"usage": "ocr"}, "usage"),
        ({"foundation": "GPT_99"}, "foundation"),
        ({"parameters": "7"}, "parameters"),
        ({"parameters": True}, "parameters"),
        ({"description": None}, "description"),
        ({"created": "2026-01-01"}, "created"),
        ({"created": {}}, "created.value"),
        ({"created": {"value": "yesterday"}}, "created.value"),
        ({"created": {"value": 1700000000}}, "created.value"),
        ({"created": {"value": "0001-01-01T00:00:00+14:00"}}, "created.value"),
        ({"bytes": {"value": 1}}, "bytes.readable"),
        ({"bytes": {"value": 10.5, "readable": ""}}, "bytes.value"),
        ({"bytes": {"value": True, "readable": ""}}, "bytes.value"),
        ({"bytes": {"value": 1 << 63, "readable": ""}}, "bytes.value"),
        ({"maxTokens": {}}, "maxTokens.total"),
        ({"maxTokens": {"total": "8"}}, "maxTokens.total"),
        ({"capabilities": {"images": "yes"}}, "capabilities.images"),
        ({"schema": {"migration": 0, "semantic": "2"}}, "schema.semantic"),
        ({"score": {}}, "score.automatic"),
        ({"organization": {"id": "o", "reference": {}}}, "organization.reference.configuration"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], field: str) -> None:
    check(MODEL, "Model")
    with pytest.raises(InvalidRequest) as caught:
        check({**MODEL, **change}, "Model")
    assert caught.value.message.startswith(f"{field} ")


@pytest.mark.parametrize("field", ["id", "name", "version", "created", "cloud", "type", "usage"])
def test_a_missing_field_is_named(field: str) -> None:
    body = {name: value for name, value in MODEL.items() if name != field}
    with pytest.raises(InvalidRequest, match=f"^{field} is missing"):
        check(body, "Model")


@pytest.mark.parametrize("body", [[], "text", 1, True, None])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(InvalidRequest, match="The body must not be"):
        check(body, "ModelDeleteCacheInput")


def test_lists_and_free_keys_are_checked_inside() -> None:
    check({"iterable": [MODEL]}, "Models")
    with pytest.raises(InvalidRequest, match=r"^iterable\[1\]\.cloud is missing"):
        check({"iterable": [MODEL, {}]}, "Models")
    with pytest.raises(InvalidRequest, match=r"^indices\.a must not be"):
        check({"iterable": [], "indices": {"a": "b"}}, "FlattenedUsers")


def test_limits_and_unknown_properties() -> None:
    check({"percentage": 100, "status": "IN-PROGRESS", "more": 1}, "ModelDownloadProgress")
    check({"percentage": None}, "ModelDownloadProgress")
    for bad in (-0.1, 100.5):
        with pytest.raises(InvalidRequest, match="percentage is out of range"):
            check({"percentage": bad}, "ModelDownloadProgress")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05.123456+02:00", "2026-01-02T01:04:05.123456+00:00"),
        ("2026-01-02T03:04:05.123", "2026-01-02T03:04:05.123000+00:00"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
    ],
)
def test_times_are_read_as_clients_write_them(text: str, utc: str) -> None:
    assert timestamp(text).isoformat() == utc


def test_the_document_stays_plain_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
