"""The thoughts that some models write before their reply, between `<think>` and `</think>`."""

from dataclasses import replace

from synthgen.config.replies.thoughts import BEGIN, END, is_thinking, split_thoughts
from synthgen.engines.protocol import Reply, Request

__all__ = ["BEGIN", "END", "is_thinking", "split_thoughts", "without_thoughts"]


def without_thoughts(reply: Reply, request: Request) -> Reply:
    """Return a reply with the thoughts in its text apart; their log-probabilities are not the answer's.

    A reply that is held to a schema or to choices has none: such a mark in it is a part of its texts.
    """
    if request.schema or request.choices:
        return reply
    thoughts, text = split_thoughts(reply.text)
    if text == reply.text:
        return reply
    return replace(reply, text=text, reasoning=thoughts, logprobs=())
