"""What an engine says about a request, on its way to whoever asked."""

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
    TextPiece,
)
from modeldeck.core.schema import Chunk, ErrorInfo, TextVector
from modeldeck.core.schema.errors import from_info


def figures(report: AnyReport) -> dict[str, Any]:
    """What a report tells of the instance itself, by the names of its record. Pure."""
    if not isinstance(report, AnswerDone):
        return {}
    return {
        "tokens_per_s": report.tokens_per_s,
        "time_to_first_token_s": report.time_to_first_token_s,
        "engine_bytes": report.engine_bytes,
        "engine_peak_bytes": report.engine_peak_bytes,
    }


def tokens(report: AnyReport) -> int:
    """Tokens that were in the context, as far as a report tells: question and answer. Pure."""
    match report:
        case AnswerDone(prompt_tokens=prompt, completion_tokens=answer):
            return (prompt or 0) + (answer or 0)
        case EmbeddingVector(tokens=count):
            return count
    return 0


async def pass_on(report: AnyReport, job: RequestStream[Any]) -> bool:
    """Pass one report on, waiting for room; says whether the request is over.

    Raises EngineFailed for a report that answers nothing.
    """
    match report:
        case TextPiece(text=text, logprobs=logprobs):
            await job.put(Chunk(text=text, logprobs=logprobs))
            return False
        case EmbeddingVector():
            await job.put(TextVector(values=report.values, tokens=report.tokens))
            await job.finish()
        case AnswerDone():
            await job.put(_last_chunk(report))
            await job.finish()
        case CommandFailed(error=ErrorInfo(code=Cancelled.code)) if isinstance(job, TextRequest):
            # Cut short by unloading: what came so far is still an answer.
            await job.put(Chunk(finish_reason="cancelled"))
            await job.finish()
        case CommandFailed(error=error):
            await job.finish(from_info(error))
        case _:
            raise EngineFailed(f"The engine answered a request with {type(report).__name__}.")
    return True


def give_up(
    job: RequestStream[Any], error: NoAnswer, *, again: bool, lines: tuple[str, ...]
) -> EngineFailed:
    """Fail a job whose process is of no use any more; returns what came of the process.

    `again` where the model is loaded again by itself; `lines` are the last ones of the log.
    """
    done = "Its process is ended"
    done += ", and the model is loaded again." if again else ". Load the model again."
    failed = EngineFailed(str(error), done, details=lines)
    job.fail(InvalidRequest(str(error), done) if error.asked else failed)
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
