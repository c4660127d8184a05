"""The VLM in training: the stock weights, attention over packed rows, and the heads of the patch labels.

Only the attention is our own: all rows of a picture share its keys and values, so a picture is read once for all its
examples.

Shapes in this module: B pictures; P = 36 patches, in a grid of S = 6 a side; D = 192, the width; X = PREFIX_TOKENS =
79; R = ROWS = 9; L = ROW_TOKENS = 48; T = X + R * L tokens of a picture and its rows; H = 6 heads (2 of keys and
values) of depth E = 32.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedTokenizerFast

from demo.checkpoint import read_checkpoint
from demo.nano_vlm import PATCHES_A_SIDE, build_vlm, vlm_config
from demo.packing import PREFIX_TOKENS, ROW_TOKENS, ROWS
from demo.patch_labels import CLASS_OF, HEADS, WORD_HEADS
from demo.tokenizer import END, IMAGE, USER
from demo.world import plural


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **_: object
) -> tuple[Tensor, None]:
    """Attend over a prefix and then rows, each of which sees the prefix and itself; an attention of transformers.

    Args:
        module: The layer; transformers passes it, nothing here needs it.
        query: (B, H, T, E).
        key: (B, 2, T, E).
        value: (B, 2, T, E).
        mask: (B * R, 1, L, X + L) bool, True where a token of a row may look.

    Returns:
        (B, T, H, E), and None in place of the attention weights.
    """
    attend = nn.functional.scaled_dot_product_attention
    size, heads, _tokens, depth = query.shape
    groups = heads // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)  # (B, H, T, E)
    prefix = attend(
        query[:, :, :PREFIX_TOKENS], key[:, :, :PREFIX_TOKENS], value[:, :, :PREFIX_TOKENS], is_causal=True
    )  # (B, H, X, E)

    def split_rows(x: Tensor) -> Tensor:
        rows: Tensor = x[:, :, PREFIX_TOKENS:].unflatten(2, (ROWS, ROW_TOKENS))  # (B, H, R, L, E)
        return rows.transpose(1, 2)  # (B, R, H, L, E)

    def with_prefix(x: Tensor) -> Tensor:
        shared = x[:, None, :, :PREFIX_TOKENS].expand(size, ROWS, heads, PREFIX_TOKENS, depth)  # (B, R, H, X, E)
        return torch.cat([shared, split_rows(x)], 3).flatten(0, 1)  # (B * R, H, X + L, E)

    row_queries = split_rows(query).flatten(0, 1)  # (B * R, H, L, E)
    rows = attend(row_queries, with_prefix(key), with_prefix(value), attn_mask=mask)  # (B * R, H, L, E)
    rows = rows.unflatten(0, (size, ROWS)).transpose(1, 2)  # (B, R, H, L, E) -> (B, H, R, L, E)
    rows = rows.flatten(2, 3)  # (B, H, R * L, E)
    return torch.cat([prefix, rows], 2).transpose(1, 2), None  # (B, H, T, E) -> (B, T, H, E)


AttentionInterface.register("packed", packed_attention)


class MultitaskVLM(nn.Module):
    """The VLM, and beside it an embedding of every class of the patch labels, (classes, D)."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        image, end, user = tokenizer.convert_tokens_to_ids([IMAGE, END, USER])
        self.user_id = user
        self.vlm = build_vlm(vlm_config(len(tokenizer), image, end))
        self.class_embeddings = nn.Parameter(torch.zeros(sum(HEADS.values()), self.vlm.config.text_config.hidden_size))
        self.vlm.model.language_model.config._attn_implementation = "packed"

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the projected patches of pictures: (B, 3, SIZE, SIZE) -> (B, P, D)."""
        core = self.vlm.model
        features = core.vision_tower(images, output_hidden_states=True).hidden_states[-1]  # (B, P, D)
        patches: Tensor = core.multi_modal_projector(features)  # (B, P, D)
        return patches

    def embed_prefix(self, patches: Tensor) -> Tensor:
        """Return <|user|>, the base picture, and the same picture as its only crop, with a newline after each row.

        This is the sequence that the stock processor and model make of one picture: (B, P, D) -> (B, X, D).
        """
        core, size, side = self.vlm.model, patches.shape[0], PATCHES_A_SIDE
        newlines = core.image_newline.expand(size, side, 1, -1)  # (B, S, 1, D)
        grid = patches.unflatten(1, (side, side))  # (B, S, S, D)
        crop = torch.cat([grid, newlines], 2).flatten(1, 2)  # (B, S * (S + 1), D)
        user = core.get_input_embeddings().weight[self.user_id].expand(size, 1, -1)  # (B, 1, D)
        return torch.cat([user, patches, crop], 1)  # (B, 1 + P + S * (S + 1), D) = (B, X, D)

    def forward(self, images: Tensor, token_ids: Tensor, position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run the tower once and the language model over the prefix and all rows.

        Args:
            images: (B, 3, SIZE, SIZE) float32.
            token_ids: (B, R, L) int64.
            position: (B, R, L) int64.
            mask: (B, R, L, X + L) bool, from `packing.row_mask`.

        Returns:
            Final hidden states of the rows, (B, R, L, D), and the projected patches, (B, P, D).
        """
        core, patches = self.vlm.model, self.encode_images(images)
        text = core.get_input_embeddings()(token_ids.flatten(1))  # (B, R * L, D)
        prefix_position = torch.arange(PREFIX_TOKENS, device=token_ids.device).expand(len(token_ids), -1)  # (B, X)
        hidden = core.language_model(
            inputs_embeds=torch.cat([self.embed_prefix(patches), text], 1),  # (B, T, D)
            position_ids=torch.cat([prefix_position, position.flatten(1)], 1),  # (B, T)
            attention_mask={"full_attention": mask.flatten(0, 1)[:, None]},  # (B * R, 1, L, X + L)
            use_cache=False,
        ).last_hidden_state  # (B, T, D)
        return hidden[:, PREFIX_TOKENS:].unflatten(1, (ROWS, ROW_TOKENS)), patches  # (B, R, L, D), (B, P, D)


def init_from_vision(model: MultitaskVLM, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Copy what phase one learned: the tower, the projector, and the class embeddings as embeddings of their words."""
    weights = read_checkpoint(path)["model"]
    core = model.vlm.model
    core.vision_tower.load_state_dict(_part_of(weights, "tower."))
    core.multi_modal_projector.load_state_dict(_part_of(weights, "projector."))
    model.class_embeddings.data.copy_(weights["class_embeddings"])  # (classes, D)
    table = core.get_input_embeddings().weight.data  # (tokens, D)
    table.normal_(0, 0.06)
    core.image_newline.data.normal_(0, 0.06)  # (D,)
    first = 0  # row of the head's first class
    for head, size in HEADS.items():
        for word in WORD_HEADS.get(head, ()):
            embedding = weights["class_embeddings"][first + CLASS_OF[head][word]]  # (D,)
            for form in (word, plural(word)):
                ids = tokenizer.encode(form, add_special_tokens=False)
                if len(ids) == 1:
                    noise = 0 if form == word else 0.02 * torch.randn(table.shape[1])  # (D,)
                    table[ids[0]] = embedding + noise
        first += size


def _part_of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
