"""The score `plainness`: the share of words of an answer that have at most seven letters."""

from synthgen.stages.generate.measures import Pair, Score, Scorer
from synthgen.stages.generate.session import ImageSession

SHORT = 7  # letters


async def plainness(session: ImageSession, pair: Pair) -> Score:
    """Return the share of short words, from 0 to 1."""
    words = pair.reply.text.split()
    if not words:
        return Score(None, "no_words")
    return Score(sum(len(word) <= SHORT for word in words) / len(words))


PLAINNESS = Scorer("plainness", plainness)
