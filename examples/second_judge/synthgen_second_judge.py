"""The score `second_opinion`: whether another model, behind an endpoint, finds an answer right."""

import base64
import io
import os

from openai import AsyncOpenAI, OpenAIError

from synthgen.stages.generate.measures import Pair, Score, Scorer
from synthgen.stages.generate.session import ImageSession

PROMPT = "Question: {question}\nAnswer: {answer}\nIs every part of this answer true of the image? Say yes or no."


async def second_opinion(session: ImageSession, pair: Pair) -> Score:
    """Return 1 for yes and 0 for no."""
    text = PROMPT.format(question=pair.question.text, answer=pair.reply.text)
    sink = io.BytesIO()
    session.image.save(sink, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    key = os.environ.get("SECOND_JUDGE_KEY", "none")
    try:
        async with AsyncOpenAI(base_url=os.environ["SECOND_JUDGE_URL"], api_key=key) as client:
            reply = await client.chat.completions.create(
                model=os.environ["SECOND_JUDGE_MODEL"],
                messages=[{"role": "user", "content": content}],  # type: ignore[list-item,misc]
                max_tokens=2,
                temperature=0,
            )
    except OpenAIError as error:
        return Score(None, f"call_failed: {error}")
    verdict = (reply.choices[0].message.content or "").strip().lower()
    if not verdict.startswith(("yes", "no")):
        return Score(None, f"unparsable: {verdict!r}")
    return Score(float(verdict.startswith("yes")))


SECOND_OPINION = Scorer("second_opinion", second_opinion)
