"""The thoughts that some models write before their reply, between `<think>` and `</think>`."""

from dataclasses import replace

from synthgen.engines.protocol import Reply, Request

BEGIN, END = "<think>", "</think>"  # some chat templates write the first one, so a reply may hold only the second


def without_thoughts(reply: Reply, request: Request) -> Reply:
    """Return a reply with the thoughts in its text apart; their log-probabilities are not the answer's.

    A reply that is held to a schema or to choices has none: such a mark in it is a part of its texts.
    """
    if request.schema or request.choices or END not in reply.text:
        return reply
    thoughts, text = split_thoughts(reply.text)
    return replace(reply, text=text, reasoning=thoughts, logprobs=())


def split_thoughts(text: str) -> tuple[str, str]:
    """Return the thoughts that a reply begins with, and the reply behind them; thoughts that do not end stay in it."""
    thoughts, end, answer = text.rpartition(END)
    return (thoughts.replace(BEGIN, "", 1).strip(), answer.strip()) if end else ("", text)
