"""The tokens of images as an engine counts them, where no rule can tell, and prompts that are too long for a model."""

import re

from synthgen.console import note
from synthgen.engines.image_tokens import PROCESSOR, SETTING, ImageBound
from synthgen.engines.protocol import Request

MEASURED = 8  # images
LONGEST = "engine.options.max_model_len"
TOO_LONG = (  # the refusals of vLLM, with the tokens of a prompt and of the context
    re.compile(r"prompt \(length (?P<prompt>\d+)\).*maximum\s+model length of (?P<context>\d+)", re.DOTALL),
    re.compile(r"maximum context length is (?P<context>\d+) tokens.*contains (?:at least )?(?P<prompt>\d+) input"),
)


class ImageMeter:
    """Tells once if an image takes more tokens than it should, of a model whose family is not known."""

    def __init__(self, model: str, bound: ImageBound) -> None:
        self._model, self._wanted = model, bound.wanted
        self._left = MEASURED if bound.rule is None and bound.wanted is not None else 0

    @property
    def is_measuring(self) -> bool:
        """Whether more images are to be seen."""
        return self._left > 0

    def see(self, request: Request, tokens: int) -> None:
        """Take the tokens that the image of a request added to its text."""
        if request.image is None or request.more or not self.is_measuring or self._wanted is None:
            return
        self._left -= 1
        if tokens > self._wanted:
            self._left = 0
            width, height = request.image.size
            note(
                f"model {self._model}: an image of {width} x {height} takes {tokens:,} tokens, more than {SETTING} "
                f"({self._wanted:,}); set engine.options.{PROCESSOR} as its processor takes it"
            )


def too_long(message: str, request: Request) -> str | None:
    """Return one line on a prompt that does not fit the context, from vLLM's refusal; None for any other error."""
    found = next((match for pattern in TOO_LONG if (match := pattern.search(message))), None)
    if found is None:
        return None
    prompt, context = int(found["prompt"]), int(found["context"])
    sizes = ", ".join(f"{image.width} x {image.height}" for image in request.images)
    size = f" with its {'images' if request.more else 'image'} of {sizes}" if request.image else ""
    mend = f"lower {SETTING}, or raise {LONGEST}" if request.image else f"raise {LONGEST}"
    return f"the prompt{size} is {prompt:,} tokens, the context holds {context:,}; {mend}"
