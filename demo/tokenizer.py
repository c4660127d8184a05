"""The tokenizer and the chat template of the nano VLM.

In: the world's text, drawn by lot. Out: a byte-level BPE tokenizer in which every word and number of the world is one token and
any other text still has tokens. Why this way: a name that is one token has one embedding, which the vision phase already taught to
the patches that show it; a leading space is added to every piece of text, so that a word is the same token anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from demo.ground_truth import golds
from demo.question_templates import ASK_AS, ask_prompt
from demo.world import BACKGROUNDS, COLOURS, COLUMNS, GROUPS, NUMBERS, OBJECTS, ROWS, SHAPES, WORDS, plural, sample

PAD, USER, ASSISTANT, END, IMAGE, VIDEO = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>", "<video>"
SPECIAL = (PAD, USER, ASSISTANT, END, IMAGE, VIDEO)  # <video> is never used: the stock processor wants it to exist
# A system message is passed over: the model was taught none. The image of a turn comes before its text.
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}<|user|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|end|>"
    "{% elif m['role'] == 'assistant' %}<|assistant|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|end|>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _corpus() -> Iterator[str]:
    names = (*OBJECTS, *SHAPES, *COLOURS, *GROUPS, *BACKGROUNDS, *ROWS, *COLUMNS, "shape", "thing", "bar")
    for word in (*names, *map(plural, names), *WORDS, *NUMBERS, "none", "yes", "no", *ASK_AS.values()):
        for _ in range(200):
            yield word
    rng = random.Random(0)
    for index in range(1500):
        scene = sample(1, index)
        for gold in golds(scene, rng):
            yield f"{gold.question(0)}\n{gold.question(1)}\n{gold.question(2)} {gold.sentence()} {gold.answer} {gold.sentence()}"
            yield f"{ask_prompt(gold.type, rng.randint(1, 3))} Answer shortly. Answer in a sentence. "
            yield "Rephrase: Is it true? yes no none"


def tokenizer_in(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a training run: made once, then the same at every resumption."""
    if not (folder / "tokenizer.json").exists():
        build_tokenizer().save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def build_tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=100, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, additional_special_tokens=[USER, ASSISTANT, IMAGE, VIDEO],
        chat_template=CHAT_TEMPLATE, padding_side="left", model_max_length=1024, clean_up_tokenization_spaces=False,
    )  # fmt: skip
