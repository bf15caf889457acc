"""Passes the reports of an engine on to the request that they answer."""

from __future__ import annotations

from typing import Any

from modeldeck.core.errors import Cancelled, EngineFailed, InvalidRequest
from modeldeck.core.runtime.instance.request import RequestStream, TextRequest
from modeldeck.core.runtime.process.engine_process import NoAnswer
from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    AnyReport,
    CommandFailed,
    EmbeddingVector,
    PromptProgress,
    RequestWaits,
    TextPiece,
    TextRanked,
)
from modeldeck.core.schema import Chunk, ErrorInfo, TextScore, TextVector
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
    }


def tokens(report: AnyReport) -> int:
    """Tokens in the context, of prompt and answer, that a report counts; else 0. Pure."""
    match report:
        case AnswerDone(prompt_tokens=prompt, completion_tokens=answer):
            return (prompt or 0) + (answer or 0)
        case EmbeddingVector(tokens=count) | TextRanked(tokens=count):
            return count
    return 0


async def pass_on(report: AnyReport, request: RequestStream[Any]) -> bool:
    """Pass one report on, waiting for room; return whether the request is complete.

    Raises EngineFailed for a report that is no answer to a request.
    """
    match report:
        case TextPiece(text=text, logprobs=logprobs):
            await request.put(Chunk(text=text, logprobs=logprobs))
            return False
        case PromptProgress() | RequestWaits():
            return False
        case EmbeddingVector():
            await request.put(TextVector(values=report.values, tokens=report.tokens))
            await request.finish()
        case TextRanked(score=score, probability=probability, tokens=count):
            await request.put(TextScore(score=score, probability=probability, tokens=count))
            await request.finish()
        case AnswerDone():
            await request.put(_last_chunk(report))
            await request.finish()
        case CommandFailed(error=ErrorInfo(code=Cancelled.code)) if isinstance(
            request, TextRequest
        ):
            # Cut short by unloading: the text so far is still an answer.
            await request.put(Chunk(finish_reason="cancelled"))
            await request.finish()
        case CommandFailed(error=error):
            await request.finish(from_info(error))
        case _:
            raise EngineFailed(f"The engine answered a request with {type(report).__name__}.")
    return True


def fail_stuck(
    request: RequestStream[Any], error: NoAnswer, *, restarts: bool, lines: tuple[str, ...]
) -> EngineFailed:
    """Fail a request whose process cannot be used any more; return the error of the process.

    Args:
        request: The request in work.
        error: Why the process cannot be used.
        restarts: Whether the model is loaded again automatically.
        lines: The last lines of the log.
    """
    done = "Its process is ended"
    done += ", and the model is loaded again." if restarts else ". Load the model again."
    failed = EngineFailed(str(error), done, details=lines)
    request.fail(InvalidRequest(str(error), done) if error.by_request else failed)
    return failed


def _last_chunk(done: AnswerDone) -> Chunk:
    return Chunk(
        finish_reason=done.reason,
        tool_calls=done.tool_calls,
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        tokens_per_s=done.tokens_per_s,
        time_to_first_token_s=done.time_to_first_token_s,
    )
