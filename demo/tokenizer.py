"""The tokenizer and the chat template of the nano VLM.

A byte-level BPE in which every word and number of the world is one token, and any other text still has tokens. A name
that is one token has one embedding, which phase one already taught to the patches that show it. A space is added before
every piece of text, so a word is the same token anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from demo.ground_truth import qa_pairs
from demo.question_templates import ASK_AS, ask_prompt
from demo.world import BACKGROUNDS, COLOURS, COLUMNS, GROUPS, NUMBERS, OBJECTS, ROWS, SHAPES, WORDS, plural, sample

PAD, USER, ASSISTANT, END, IMAGE, VIDEO = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>", "<video>"
SPECIAL = (PAD, USER, ASSISTANT, END, IMAGE, VIDEO)  # the stock processor needs <video> to exist; nothing uses it
# The model was taught no system message, so one is ignored. The image of a turn comes before its text.
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


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a folder, made on first use, so that a training that goes on has the same one."""
    if not (folder / "tokenizer.json").exists():
        build_tokenizer().save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer trained on the texts of the world."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=100,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, IMAGE, VIDEO],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def _corpus() -> Iterator[str]:
    """Yield every word many times, so that it becomes one token, and then questions and answers of sampled scenes."""
    names = (*OBJECTS, *SHAPES, *COLOURS, *GROUPS, *BACKGROUNDS, *ROWS, *COLUMNS, "shape", "thing", "bar")
    for word in (*names, *map(plural, names), *WORDS, *NUMBERS, "none", "yes", "no", *ASK_AS.values()):
        for _ in range(200):
            yield word
    rng = random.Random(0)
    for index in range(1500):
        scene = sample(1, index)
        for pair in qa_pairs(scene, rng):
            questions = "\n".join(pair.question(wording) for wording in range(3))
            yield f"{questions} {pair.sentence()} {pair.answer} {pair.sentence()}"
            yield f"{ask_prompt(pair.type, rng.randint(1, 3))} Answer shortly. Answer in a sentence. "
            yield "Rephrase: Is it true? yes no none"
