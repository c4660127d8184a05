"""The nano VLM as it is trained: lessons packed in rows behind one picture, and the dense heads kept beside it.

In: pictures, token ids and a mask. Out: hidden states of the rows and the projected patches. Why this way: the weights are those of the
stock model, only attention is our own: rows share the picture's keys and values, so a picture is read once for all its lessons.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedTokenizerFast

from demo.nano_vlm import PATCHES, build_vlm, vlm_config
from demo.patch_labels import HEADS, INDEX, WORD_HEADS
from demo.tokenizer import END, IMAGE, USER
from demo.training_examples import PREFIX, ROW, ROWS
from demo.world import plural


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **_: object
) -> tuple[Tensor, None]:
    """Attention over `PREFIX` tokens and then ROWS rows, each of which sees the prefix and itself as `mask` allows."""
    attend = nn.functional.scaled_dot_product_attention
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    head = attend(query[:, :, :PREFIX], key[:, :, :PREFIX], value[:, :, :PREFIX], is_causal=True)
    size, heads, _length, depth = query.shape

    def rows(x: Tensor) -> Tensor:
        split: Tensor = x[:, :, PREFIX:].unflatten(2, (ROWS, ROW)).transpose(1, 2)  # image, row, head, token, depth
        return split

    def with_prefix(x: Tensor) -> Tensor:
        shared = x[:, None, :, :PREFIX].expand(size, ROWS, heads, PREFIX, depth)
        return torch.cat([shared, rows(x)], 3).flatten(0, 1)

    body = attend(rows(query).flatten(0, 1), with_prefix(key), with_prefix(value), attn_mask=mask)
    body = body.unflatten(0, (size, ROWS)).transpose(1, 2).flatten(2, 3)
    return torch.cat([head, body], 2).transpose(1, 2), None


AttentionInterface.register("packed", packed_attention)


class Pupil(nn.Module):
    """The VLM and, beside it, the rows of the dense heads."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        image, end, user = tokenizer.convert_tokens_to_ids([IMAGE, END, USER])
        self.user = user
        self.vlm = build_vlm(vlm_config(len(tokenizer), image, end))
        self.words = nn.Parameter(torch.zeros(sum(HEADS.values()), self.vlm.config.text_config.hidden_size))
        self.vlm.model.language_model.config._attn_implementation = "packed"

    def see(self, images: Tensor) -> Tensor:
        core = self.vlm.model
        seen: Tensor = core.multi_modal_projector(
            core.vision_tower(images, output_hidden_states=True).hidden_states[-1]
        )
        return seen

    def prefix(self, seen: Tensor) -> Tensor:
        """<|user|>, the base picture, the same picture as its only crop with a newline after each row of patches."""
        core, size = self.vlm.model, seen.shape[0]
        side = int(PATCHES**0.5)
        newline = core.image_newline.expand(size, side, 1, -1)
        crop = torch.cat([seen.unflatten(1, (side, side)), newline], 2).flatten(1, 2)
        user = core.get_input_embeddings().weight[self.user].expand(size, 1, -1)
        return torch.cat([user, seen, crop], 1)

    def forward(self, images: Tensor, ids: Tensor, position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Final hidden states of the rows, and the projected patches."""
        core, seen = self.vlm.model, self.see(images)
        text = core.get_input_embeddings()(ids.flatten(1))
        start = torch.arange(PREFIX, device=ids.device).expand(ids.shape[0], PREFIX)
        hidden = core.language_model(
            inputs_embeds=torch.cat([self.prefix(seen), text], 1), position_ids=torch.cat([start, position.flatten(1)], 1),
            attention_mask={"full_attention": mask.flatten(0, 1)[:, None]}, use_cache=False,
        ).last_hidden_state  # fmt: skip
        return hidden[:, PREFIX:].unflatten(1, (ROWS, ROW)), seen


def start_from_vision(pupil: Pupil, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Copy the tower, the projector and the words that the patches were taught into the VLM."""
    state = torch.load(path)["model"]
    core = pupil.vlm.model
    core.vision_tower.load_state_dict({k.removeprefix("tower."): v for k, v in state.items() if k.startswith("tower.")})
    core.multi_modal_projector.load_state_dict(
        {k.removeprefix("projector."): v for k, v in state.items() if k.startswith("projector.")}
    )
    pupil.words.data.copy_(state["words"])
    table = core.get_input_embeddings().weight.data
    table.normal_(0, 0.06)
    core.image_newline.data.normal_(0, 0.06)
    first = 0
    for head, size in HEADS.items():
        for word in WORD_HEADS.get(head, ()):
            for form in (word, plural(word)):
                ids = tokenizer.encode(form, add_special_tokens=False)
                if len(ids) == 1:
                    table[ids[0]] = state["words"][first + INDEX[head][word]] + (
                        0 if form == word else 0.02 * torch.randn(table.shape[1])
                    )
        first += size
