"""Passes the reports of an engine on to the request that they answer. Never waits."""

from __future__ import annotations

from typing import Any

from modeldeck.core.errors import Cancelled, EngineFailed
from modeldeck.core.runtime.instance.request import RequestStream, TextRequest
from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    AnyReport,
    CommandFailed,
    PromptProgress,
    RequestWaits,
    TextPiece,
    TextsEmbedded,
    TextsRanked,
    TokensRead,
)
from modeldeck.core.schema import Chunk, ErrorInfo
from modeldeck.core.schema.errors import from_info


def figures(report: AnyReport) -> dict[str, Any]:
    """Fields of the instance's record that a report changes, by name. Pure."""
    if not isinstance(report, AnswerDone):
        return {}
    return {
        "tokens_per_s": report.tokens_per_s,
        "time_to_first_token_s": report.time_to_first_token_s,
        "engine_bytes": report.engine_bytes,
        "engine_peak_bytes": report.engine_peak_bytes,
        "prefix_cache_bytes": report.prefix_cache_bytes,
    }


def tokens(report: AnyReport) -> int:
    """Tokens in the context, of prompt and answer, that a report counts; else 0. Pure."""
    match report:
        case AnswerDone(prompt_tokens=prompt, completion_tokens=answer):
            return (prompt or 0) + (answer or 0)
        case TextsEmbedded(vectors=found) | TextsRanked(scores=found):
            return max((one.tokens for one in found), default=0)
    return 0


def progress(report: AnyReport, pieces: int) -> dict[str, Any]:
    """Fields of the request's record that a report changes, by name. Pure.

    `pieces` is the number of chunks that came before.
    """
    match report:
        case PromptProgress(tokens=read, cached_tokens=cached, total_tokens=total, media=media):
            counts = {"prompt_read": read, "cached_tokens": cached, "prompt_tokens": total}
            why = f"reads {media}" if media else ""
            return {"state": "prompt", "why": why, "slot": report.slot, **counts}
        case RequestWaits(why=why):
            return {"state": "waiting", "why": why}
        case TextPiece(thought=thought):
            state = "thinking" if thought else "writing"
            return {"state": state, "why": "", "completion_tokens": pieces + 1}
        case TextsEmbedded(vectors=found) | TextsRanked(scores=found):
            count = sum(one.tokens for one in found)
            return {"prompt_tokens": count, "prompt_read": count}
        case AnswerDone():
            return {
                "prompt_tokens": report.prompt_tokens,
                "prompt_read": report.prompt_tokens,
                "cached_tokens": report.cached_tokens,
                "completion_tokens": report.completion_tokens,
                "thought_tokens": report.thought_tokens,
                "tokens_per_s": report.tokens_per_s,
                "time_to_first_token_s": report.time_to_first_token_s,
            }
    return {}


def pass_on(report: AnyReport, request: RequestStream[Any]) -> tuple[bool, bool]:
    """Pass one report on.

    Returns whether the request is complete, and whether its reader keeps up. Raises EngineFailed
    for a report that is no answer to a request.
    """
    if changes := progress(report, request.pieces):
        request.note(**changes)
    keeps_up = True
    match report:
        case PromptProgress() | RequestWaits():
            return False, keeps_up
        case TextPiece(text=text, logprobs=logprobs, thought=thought):
            said, thinks = ("", text) if thought else (text, "")
            keeps_up = request.put(Chunk(text=said, thought=thinks, logprobs=logprobs))
            return False, keeps_up
        case TextsEmbedded(vectors=found) | TextsRanked(scores=found):
            for one in found:
                request.put(one)
            request.finish()
        case TokensRead(found=found):
            request.put(found)
            request.finish()
        case AnswerDone():
            keeps_up = request.put(_last_chunk(report))
            request.finish()
        case CommandFailed(error=ErrorInfo(code=Cancelled.code)) if isinstance(
            request, TextRequest
        ):
            # Cut short by unloading: the text so far is still an answer.
            request.put(Chunk(finish_reason="cancelled"))
            request.finish()
        case CommandFailed(error=error):
            request.finish(from_info(error))
        case _:
            raise EngineFailed(f"The engine answered a request with {type(report).__name__}.")
    return True, True


def _last_chunk(done: AnswerDone) -> Chunk:
    return Chunk(
        finish_reason=done.reason,
        stop_text=done.stop_text,
        looped=done.looped,
        tool_calls=done.tool_calls,
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        cached_tokens=done.cached_tokens,
        thought_tokens=done.thought_tokens,
        tokens_per_s=done.tokens_per_s,
        time_to_first_token_s=done.time_to_first_token_s,
    )
