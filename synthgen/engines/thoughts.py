"""The thoughts that some models write before their reply, between `<think>` and `</think>`."""

BEGIN, END = "<think>", "</think>"  # some chat templates write the first one, so a reply may hold only the second


def split_thoughts(text: str) -> tuple[str, str]:
    """Return the thoughts that a reply begins with, and the reply behind them; thoughts that do not end stay in it."""
    thoughts, end, answer = text.rpartition(END)
    return (thoughts.replace(BEGIN, "", 1).strip(), answer.strip()) if end else ("", text)
