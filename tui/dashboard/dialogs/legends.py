"""Legends of the help: what signs, letters and words on the screens stand for. Pure."""

from __future__ import annotations

from modeldeck.tui.text.format import Glyphs

Legend = tuple[str, tuple[tuple[str, str], ...]]
"""A heading, and each sign with what it stands for."""


def legends(glyphs: Glyphs) -> tuple[Legend, ...]:
    """The legends, in the signs of a terminal."""
    weights, cache, rest, others = tuple(glyphs.parts)
    signs = (
        (glyphs.loaded, "loaded in memory"),
        (glyphs.done, "downloaded, or done"),
        (glyphs.busy, "loading, checking, answering"),
        (glyphs.down, "downloading"),
        (glyphs.paused, "paused"),
        (glyphs.failed, "failed; in the top line: errors that the Log has and you have not seen"),
        (glyphs.mark, "marked: the next command acts on all marked rows"),
        (f"{glyphs.busy} 2+1", "2 requests are answered, 1 waits"),
    )
    can = (
        ("v", "sees images"),
        ("t", "calls tools"),
        ("r", "reasons first"),
        ("a", "hears audio"),
        ("emb", "makes vectors"),
        ("rank", "sorts texts"),
        ("?", "not known"),
    )
    fit = (
        ("fits 6.9", "needs 6.9 GiB, which are free"),
        ("tight 40.6", "needs 40.6 GiB, which leaves little"),
        ("over 19.9", "19.9 GiB are missing"),
        ("budget 2.1", "2.1 GiB over your own budget"),
        ("~", "an estimate"),
        (glyphs.unknown, "not known"),
    )
    gauge = (
        (weights, "weights"),
        (cache, "KV cache"),
        (rest, "compute buffers, projector"),
        (others, "other programs"),
        (glyphs.bound, "end of a model"),
        (glyphs.reserve, "behind it: free, but not for models"),
        (glyphs.planned, "what a load will take"),
        (glyphs.free, "free"),
    )
    return ("Signs", signs), ("can", can), ("fit GiB", fit), ("Gauge of memory", gauge)
