"""Text that spells a special token, such as `<|im_end|>`, sent so that no tokenizer reads it as that token.

Words in a picture, a question or an answer would otherwise end a turn or forge a system text. A zero-width space behind
the first character breaks the spelling; models read such text as before, and it is taken out of their replies again.
"""

import re
from collections.abc import Collection

BREAK = "\u200b"  # zero-width space
# The usual spellings, for servers whose tokenizer is not known here.
USUAL = re.compile(
    r"<[|\uff5c][\w\u2581]{1,40}[|\uff5c]>|<\|\w{1,20}>|<\w{1,20}\|>|</?s>|<<?/?SYS>>"
    r"|<(?:bos|eos|pad|unk|sop|eop|IMG_CONTEXT|end_of_utterance|fake_token_around_image|global-img)>"
    r"|\[\|\w{1,40}\|\]|<(?:[BE]OS|PAD|UNK|MASK_\w)_TOKEN>|<(?:image|video)_placeholder>|<(?:begin|end)_of_(?:image|text)>"
    r"|<row_\d{1,3}_col_\d{1,3}>|<im_(?:patch|start|end|col)>|</?(?:image|img|video|slice|image_id|box|quad|ref|point)>"
    r"|<(?:start|end)_of_(?:turn|image|audio)>|<(?:image|audio)_soft_token>"
    r"|\[/?(?:INST|IMG|IMG_BREAK|IMG_END|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|ARGS"
    r"|CALL_ID|gMASK|sMASK|MASK)\]"
)


class SpecialTokens:
    """The spellings of special tokens."""

    def __init__(self, spellings: Collection[str] | None = None) -> None:
        """Take the spellings of a tokenizer, or the usual ones if it is not known."""
        self._pattern = USUAL
        if spellings is not None:
            # The longest first, so that of two that begin alike the whole is broken. One character cannot be broken.
            ordered = sorted((text for text in spellings if len(text) > 1), key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")

    def break_up(self, text: str) -> str:
        """Return a text in which no special token is spelled."""
        return self._pattern.sub(lambda match: f"{match[0][0]}{BREAK}{match[0][1:]}", text)

    def restore(self, reply: str) -> str:
        """Return a reply with the spellings that were broken up in what it copies from; other breaks stay."""
        if BREAK not in reply:
            return reply
        places = [place for place, character in enumerate(reply) if character == BREAK]
        bare = reply.replace(BREAK, "")
        # Where a break is in the reply, and where that is without breaks.
        at = {place - number: place for number, place in enumerate(places)}
        dropped = {at[match.start() + 1] for match in self._pattern.finditer(bare) if match.start() + 1 in at}
        return "".join(character for place, character in enumerate(reply) if place not in dropped)
