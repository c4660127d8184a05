"""The reader of a chat completion, the JSON with which an endpoint answers a call.

Servers differ in what they leave out and what they put there instead (null, another type, an error with status 200), so
nothing is believed before it was looked at. What is no reply costs the call, as a ValueError that says why. A number
that is none is unknown; the Reply says so in its detail.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from synthgen.engines.checked import checked_reply, logprob
from synthgen.engines.protocol import Reply, Request, label_probabilities
from synthgen.engines.thoughts import without_thoughts
from synthgen.errors import one_line

# Reasons for the end of a reply, in the words of the protocol and of servers that have their own.
STOPPED = ("stop", "stop_sequence", "stop_token", "eos", "eos_token", "end_turn", "completed")
CUT_OFF = ("length", "max_tokens", "max_output_tokens", "max_length", "model_length")
FILTERED = ("content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "sensitive")
BROKEN_OFF = ("abort", "error", "cancelled", "insufficient_system_resource")
TEXT_PARTS = ("text", "output_text")
THOUGHTS = ("thinking", "reasoning")  # kinds of parts
QUOTED = 200  # characters of an answer that is no chat completion

Json = Mapping[str, Any]


def read_json(data: bytes) -> Any:
    """Return the JSON value of an answer.

    Raises:
        ValueError: It is none, as a page of a proxy; the beginning of it is in the message.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"not a chat completion: {one_line(data.decode(errors='replace'), QUOTED)}") from None


def read_completion(data: bytes, request: Request, seconds: float) -> Reply:
    """Return a chat completion as a Reply.

    Args:
        data: The body of the answer.
        request: The call that it answers.
        seconds: That the call took.

    Raises:
        ValueError: It is no reply to use, and why.
    """
    answer = read_json(data)
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list):
        raise ValueError(f"not a chat completion: {one_line(data.decode(errors='replace'), QUOTED)}")
    choice = choices[0] if choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ValueError(f"an answer without {'a message' if choices else 'choices'}")
    usage = _mapping(answer.get("usage"))
    reply = Reply(
        _text(message).strip(),
        prompt_tokens=usage.get("prompt_tokens"),
        cached_tokens=_mapping(usage.get("prompt_tokens_details")).get("cached_tokens"),
        output_tokens=usage.get("completion_tokens"),
        seconds=seconds,
        detail=_reasoning_note(message),
    )
    finish = "content_filter" if _is_refused(message) else _finish(choice, checked_reply(reply), request)
    return checked_reply(without_thoughts(_with_logprobs(replace(reply, finish=finish), choice, request), request))


def model_ids(data: bytes) -> set[str]:
    """Return the names in a list of models; one without a name, or with none that is text, is skipped.

    Raises:
        ValueError: It is no list of models.
    """
    listing = read_json(data)
    if not isinstance(listing, dict) or not isinstance(listing.get("data", False), list | None):
        raise ValueError("not a list of models")
    return {entry["id"] for entry in listing["data"] or () if isinstance(entry, dict) and _is_text(entry.get("id"))}


def _text(message: Json) -> str:
    """Return the text of a message; null is none, as where a model only reasoned."""
    content = message.get("content")
    if not content and message.get("tool_calls"):
        raise ValueError("the answer calls tools and has no text")
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    raise ValueError(f"the content of the answer is {type(content).__name__}, not text")


def _part(part: Any) -> str:
    """Return the text of one part of a content; parts that are reasoning have none."""
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, dict) else None
    if kind in THOUGHTS or kind == "refusal":
        return ""
    text = part.get("text") if kind in TEXT_PARTS else None
    if not isinstance(text, str):
        raise ValueError(f"a part of the answer is no text: {one_line(repr(part), 80)}")
    return text


def _is_refused(message: Json) -> bool:
    """Return whether a message refuses, in its field or as a part; a truth value or an empty text is no refusal."""
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return _is_text(message.get("refusal")) or any(part.get("type") == "refusal" for part in parts)


def _reasoning(message: Json) -> str:
    """Return the thoughts that a server took apart from the text, as fields or as parts of the content."""
    fields = [message[key] for key in ("reasoning_content", "reasoning") if _is_text(message.get(key))]
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    thoughts = [str(part.get("thinking") or part.get("text") or "…") for part in parts if part.get("type") in THOUGHTS]
    return fields[0] if fields else "".join(thoughts)


def _reasoning_note(message: Json) -> str | None:
    """Return the note of a message that has reasoning and no text."""
    thought = _reasoning(message)
    if message.get("content") or not thought:
        return None
    return f"the answer has no text, only {len(thought):,} characters of reasoning"


def _finish(choice: Json, reply: Reply, request: Request) -> str:
    """Return why the reply ended, in the words of a Reply."""
    reason = choice.get("finish_reason")
    if reason is None or reason == "":  # then the number of tokens tells
        is_full = reply.output_tokens is not None and reply.output_tokens >= request.max_tokens
        return "length" if is_full else "stop"
    word = reason.lower() if isinstance(reason, str) else ""
    if word in BROKEN_OFF:
        raise ValueError(f"the answer was broken off: finish_reason '{word}'")
    for words, finish in ((STOPPED, "stop"), (CUT_OFF, "length"), (FILTERED, "content_filter")):
        if word in words:
            return finish
    raise ValueError(f"finish_reason {one_line(repr(reason), 60)} is unknown, so the answer may be unfinished")


def _with_logprobs(reply: Reply, choice: Json, request: Request) -> Reply:
    """Return the reply with its log-probabilities, and the probabilities of the labels if the request has any.

    Where a server took thoughts apart, those of all that was written come together, so that none can be used.
    """
    has_thoughts = bool(_reasoning(_mapping(choice.get("message"))))
    tokens = None if has_thoughts else _mapping(choice.get("logprobs")).get("content")
    entries = [_mapping(entry) for entry in tokens] if isinstance(tokens, list) else []
    if not request.labels:
        logprobs: list[Any] = [entry.get("logprob") for entry in entries]
        return replace(reply, logprobs=tuple(logprobs))
    top = list(_top(entries[0])) if entries else []
    if not top or any(value is None for _, value in top):
        fault = "null or no numbers in top_logprobs" if top else "no top_logprobs"
        notes = [note for note in (reply.detail, f"the endpoint gives {fault}, from which labels are read") if note]
        return replace(reply, detail="; ".join(notes))
    return replace(reply, labels=label_probabilities(((token, value or 0.0) for token, value in top), request.labels))


def _top(entry: Json) -> Iterator[tuple[str, float | None]]:
    """Yield the likeliest tokens in place of a token, each with its logarithm, None if that is no number."""
    tokens = entry.get("top_logprobs")
    for top in tokens if isinstance(tokens, list) else ():
        token = top.get("token") if isinstance(top, dict) else None
        yield (token, logprob(top["logprob"])) if isinstance(token, str) and "logprob" in top else ("", None)


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
