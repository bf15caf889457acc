"""The complete route table, and the OpenAPI document made from it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from modeldeck.core.api.anthropic import routes as anthropic
from modeldeck.core.api.conversations import routes as conversations
from modeldeck.core.api.http.error_forms import ErrorStyle
from modeldeck.core.api.http.messages import (
    CachedEncoding,
    Request,
    Response,
    SharedBody,
)
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.llama_server import routes as llama_server
from modeldeck.core.api.metrics import CONTENT_TYPE, get_metrics
from modeldeck.core.api.native import bench, health, machines, requests, routes, tokens, undo
from modeldeck.core.api.ollama import routes as ollama
from modeldeck.core.api.openai import routes as openai
from modeldeck.core.api.openapi import document
from modeldeck.core.api.pieces import client_routes
from modeldeck.core.api.pieces import routes as pieces
from modeldeck.core.api.rerank import routes as rerank
from modeldeck.core.api.responses import routes as responses

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


async def get_openapi(deck: Deck, request: Request) -> Response:
    """This document: every route, made from the route table."""
    # In a thread: making it takes some 30 ms.
    body = await asyncio.to_thread(_document.of, deck.state.host.version)
    return body.response


ROUTES: tuple[Route, ...] = (
    *pieces.ROUTES,
    *client_routes.ROUTES,
    *routes.ROUTES,
    *requests.ROUTES,
    *bench.ROUTES,
    *machines.ROUTES,
    *openai.ROUTES,
    *responses.ROUTES,
    *conversations.ROUTES,
    *rerank.ROUTES,
    *anthropic.ROUTES,
    *ollama.ROUTES,
    *llama_server.ROUTES,
    *tokens.ROUTES,
    *undo.ROUTES,
    *health.ROUTES,
    Route(
        method="GET",
        template="/openapi.json",
        operation_id="openapi",
        summary="The OpenAPI document of this API",
        tag="core",
        handler=get_openapi,
        answer=dict[str, Any],
    ),
    Route(
        method="GET",
        template="/metrics",
        operation_id="metrics",
        summary="Metrics, in Prometheus text",
        tag="core",
        handler=get_metrics,
        answer=str,
        content_type=CONTENT_TYPE,
    ),
)
"""Every route that the listener serves."""

ERROR_STYLES: tuple[tuple[str, ErrorStyle], ...] = (
    ("/v1/messages", "anthropic"),
    ("/v1", "openai"),
    ("/api", "ollama"),
    *((path, "openai") for path in ("/v2", "/rerank", "/tokenize", "/detokenize")),
    ("/apply-template", "openai"),
)
"""Beginnings of paths, and the form of the errors of paths below them that have no route."""

_document = CachedEncoding(
    lambda version: SharedBody(msgspec.json.encode(document(ROUTES, version)))
)
