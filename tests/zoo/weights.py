"""Random weights that talk: most of what they say are a family's few favoured tokens, the end of a reply among them.

With random weights alone every token is as likely as any other: no reply would end, none would be read back as the
tokens that it was made of, and no label would have a probability to speak of. So one place of every hidden state is a
constant, and the output layer reads it for the favoured tokens alone.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

SPREAD = 0.12  # standard deviation of a weight; the usual 0.02 suits wide layers, here the image would hardly be seen
CONSTANT, SECOND = 0, 1  # places of the hidden states; the second is used where the output layer is the embedding
HEIGHT = 3.0  # of the constant before the first layer
FAVOUR = 11.0  # natural logarithm of how much likelier a favoured token is than another, about
CALM = 0.3  # of the spread of a favoured token's weights, or one of them would be said for ever
WRITERS = ("o_proj.weight", "down_proj.weight", "out_proj.weight")  # layers that add to the hidden states


def fill(model: Any, favoured: Mapping[int, float], *, tied: bool) -> None:
    """Fill a model of transformers with random weights, the same at every call.

    Args:
        model: The model.
        favoured: Token ids, each with the natural logarithm that is added to FAVOUR for it.
        tied: The output layer is the embedding.
    """
    torch.manual_seed(1)
    place = SECOND if tied else CONSTANT
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                torch.nn.init.normal_(weight, std=SPREAD)
                if name.endswith(WRITERS):
                    weight[[CONSTANT, place]] = 0.0
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        if tied:
            _write_second(model)
            embedding[:, CONSTANT] = HEIGHT / math.sqrt(embedding.shape[1])  # Gemma multiplies by the root
        else:
            embedding[:, CONSTANT] = HEIGHT
        head[list(favoured)] *= CALM
        head[:, place] = 0.0
        scale = FAVOUR / _mean_of(model, place)
        for token, more in favoured.items():
            head[token, place] = scale * (1 + more / FAVOUR)


def _write_second(model: Any) -> None:
    """Let one neuron of the last layer turn the constant into another one, which the embedding does not hold."""
    mlp = model.get_decoder().layers[-1].mlp
    for reader in (mlp.gate_proj, mlp.up_proj):
        reader.weight[0] = 0.0
        reader.weight[0, CONSTANT] = 2.0
    mlp.down_proj.weight[:, 0] = 0.0
    mlp.down_proj.weight[SECOND, 0] = 2.0


def _mean_of(model: Any, place: int) -> float:
    """Return the mean of a place in the hidden states that the output layer reads."""
    seen: list[torch.Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.eval()(input_ids=torch.arange(100, 200)[None])
    hook.remove()
    return float(seen[0][..., place].mean())
