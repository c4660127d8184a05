"""A small model made larger, which so starts from what the small one knows: EfficientScale (arXiv 2408.06567).

Function-preserving initialisation (FPI; Net2Net, arXiv 1511.05641) copies neurons from the left to the right, and what
reads a copied neuron divides its weight by the number of copies: the larger model computes what the small one did. That
is exact where the width is a multiple of the old one, since RMSNorm sees the same mean square. AKI (bert2BERT, arXiv
2110.07143) copies the added neurons from the next layer instead, which computes something else, but breaks the symmetry
of the copies, so that training gets further; AKI-Pro adds depth by interpolation in place of stacking, and grouped
query heads, which are added within each group. Added layers preserve no function.

For language models of the Llama form (Qwen2, Llama, Mistral, …), alone or in a LLaVA model.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from synthgen.errors import UserMistake

Method = Literal["fpi", "aki_pro"]
Weights = dict[str, Tensor]
# The linear layers of a decoder layer: the axis of their outputs and that of their inputs.
LINEARS = {
    "self_attn.q_proj": ("heads", "hidden"),
    "self_attn.k_proj": ("", "hidden"),
    "self_attn.v_proj": ("", "hidden"),
    "self_attn.o_proj": ("hidden", "heads"),
    "mlp.gate_proj": ("intermediate", "hidden"),
    "mlp.up_proj": ("intermediate", "hidden"),
    "mlp.down_proj": ("hidden", "intermediate"),
}
NORMS = ("input_layernorm", "post_attention_layernorm")
PROJECTOR = {"multi_modal_projector.linear_1": ("hidden", ""), "multi_modal_projector.linear_2": ("hidden", "hidden")}


@dataclass(frozen=True)
class Size:
    """The size of a language model; the depth of a head and the number of key and value heads stay as they are."""

    hidden: int
    intermediate: int
    heads: int
    layers: int


@dataclass(frozen=True)
class Axis:
    """An axis that grows.

    Attributes:
        source: `(new,)` int64, the old neuron of each new one.
        is_added: `(new,)` bool, whether it is a copy.
    """

    source: Tensor
    is_added: Tensor

    def outwards(self, weight: Tensor, following: Tensor | None = None) -> Tensor:
        """Return `(new, …)` rows: copies of the old ones, or for added neurons of those of the following layer."""
        rows = weight[self.source]
        if following is not None:
            rows[self.is_added] = following[self.source[self.is_added]]
        return rows

    def inwards(self, weight: Tensor) -> Tensor:
        """Return `(…, new)` columns: each old one over its number of copies."""
        return weight[:, self.source] / torch.bincount(self.source)[self.source]


def size_of(model: Any) -> Size:
    """Return the size of the language model of a model."""
    text = model.config.get_text_config()
    return Size(text.hidden_size, text.intermediate_size, text.num_attention_heads, text.num_hidden_layers)


def grow(model: Any, size: Size, method: Method = "aki_pro") -> Any:
    """Return a larger model that starts from a smaller one, which stays as it is.

    Args:
        model: The small model, on the CPU.
        size: Of the large one's language model; no part of it smaller, and as many heads in each group.
        method: `fpi` preserves what the model computes, `aki_pro` gets further in training.

    Raises:
        UserMistake: The model is of another form, or the size does not fit it.
    """
    prefix, axes = _decoder_prefix(model), _axes(model, size)
    larger = type(model)(_config(model, size))
    weights = dict(model.state_dict())
    grown = {name: weight.clone() for name, weight in weights.items() if not _is_layer(name, prefix)}
    grown |= dict(_shared(weights, prefix, axes, is_tied=model.config.get_text_config().tie_word_embeddings))
    deepest = size_of(model).layers
    for layer in range(size.layers):
        source = layer * deepest // size.layers
        following = min(source + 1, deepest - 1) if method == "aki_pro" else None
        of_layer = _layer(weights, f"{prefix}layers.", source, following, axes)
        grown |= {f"{prefix}layers.{layer}.{name}": weight for name, weight in of_layer.items()}
    larger.load_state_dict(grown)
    return larger.to(model.dtype)


def _axes(model: Any, size: Size) -> dict[str, Axis]:
    old, groups = size_of(model), model.config.get_text_config().num_key_value_heads
    for name in ("hidden", "intermediate", "heads", "layers"):
        if getattr(size, name) < getattr(old, name):
            raise UserMistake(f"{name} {getattr(size, name)}: is below the {getattr(old, name)} of the small model")
    if size.heads % groups:
        raise UserMistake(f"heads {size.heads}: is no multiple of the {groups} key and value heads, which stay")
    head = _head_size(model)
    within = _axis(old.heads // groups, size.heads // groups)  # of the heads of a group
    first = torch.arange(groups).repeat_interleave(size.heads // groups) * (old.heads // groups)
    heads = first + within.source.repeat(groups)  # (new heads,)
    parts = (heads[:, None] * head + torch.arange(head)).flatten()  # (new heads * head,)
    return {
        "hidden": _axis(old.hidden, size.hidden),
        "intermediate": _axis(old.intermediate, size.intermediate),
        "heads": Axis(parts, within.is_added.repeat(groups).repeat_interleave(head)),
    }


def _axis(old: int, new: int) -> Axis:
    places = torch.arange(new)
    return Axis(places % old, places >= old)


def _head_size(model: Any) -> int:
    text = model.config.get_text_config()
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def _config(model: Any, size: Size) -> Any:
    config, old = copy.deepcopy(model.config), size_of(model)
    text = config.get_text_config()
    text.head_dim = _head_size(model)  # it would follow from the width else
    text.hidden_size, text.intermediate_size = size.hidden, size.intermediate
    text.num_attention_heads, text.num_hidden_layers = size.heads, size.layers
    if getattr(text, "layer_types", None):
        text.layer_types = [text.layer_types[layer * old.layers // size.layers] for layer in range(size.layers)]
    return config


def _decoder_prefix(model: Any) -> str:
    """Return the beginning of the names of the language model's weights. Raises UserMistake for another form."""
    for name, module in model.named_modules():
        if hasattr(module, "layers") and hasattr(module, "embed_tokens"):
            known = {f"{linear}.{part}" for linear in LINEARS for part in ("weight", "bias")}
            known |= {f"{norm}.weight" for norm in NORMS}
            others = [each for each, _ in module.layers[0].named_parameters() if each not in known]
            if others:
                raise UserMistake(f"its layers have {others[0]}, and only layers of the Llama form can grow")
            return f"{name}." if name else ""
    raise UserMistake("it has no language model of the Llama form, and only such can grow")


def _is_layer(name: str, prefix: str) -> bool:
    return name.startswith(f"{prefix}layers.")


def _shared(
    weights: Mapping[str, Tensor], prefix: str, axes: Mapping[str, Axis], *, is_tied: bool
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights outside the layers that touch the hidden width, by name."""
    hidden = axes["hidden"]
    yield f"{prefix}embed_tokens.weight", weights[f"{prefix}embed_tokens.weight"][:, hidden.source]
    norm = weights[f"{prefix}norm.weight"]
    # A head that is the embedding cannot be divided by the copies, so the norm before it is.
    yield f"{prefix}norm.weight", hidden.inwards(norm[None])[0] if is_tied else norm[hidden.source]
    for name, weight in weights.items():
        linear, _, part = name.rpartition(".")
        projector = next((kind for end, kind in PROJECTOR.items() if linear.endswith(end)), None)
        if linear.endswith("lm_head"):
            yield name, weight[:, hidden.source] if is_tied else hidden.inwards(weight)
        elif name.endswith("image_newline"):
            yield name, weight[hidden.source]
        elif projector:
            yield name, _linear(weight, part, projector, axes)


def _layer(weights: Weights, prefix: str, source: int, following: int | None, axes: Mapping[str, Axis]) -> Weights:
    """Return the weights of a grown layer by their names in it."""
    grown: Weights = {}
    for linear, kind in LINEARS.items():
        for part in ("weight", "bias"):
            name = f"{linear}.{part}"
            if f"{prefix}{source}.{name}" in weights:
                after = None if following is None else weights[f"{prefix}{following}.{name}"]
                grown[name] = _linear(weights[f"{prefix}{source}.{name}"], part, kind, axes, after)
    for norm in NORMS:
        grown[f"{norm}.weight"] = weights[f"{prefix}{source}.{norm}.weight"][axes["hidden"].source]
    return grown


def _linear(
    weight: Tensor, part: str, kind: tuple[str, str], axes: Mapping[str, Axis], following: Tensor | None = None
) -> Tensor:
    """Return a weight or a bias of a linear layer with more outputs and inputs."""
    outputs, inputs = kind
    if part == "weight" and inputs:
        weight = axes[inputs].inwards(weight)
        following = None if following is None else axes[inputs].inwards(following)
    return axes[outputs].outwards(weight, following) if outputs else weight
