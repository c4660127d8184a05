"""Gradients are clipped as torch clips them, to the last bit."""

import pytest
import torch

from synthgen.train.loop import clip


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, float("nan")])
def test_gradients_are_scaled_as_torch_scales_them(scale: float) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (7,), (2, 2))]
    theirs = [torch.nn.Parameter(torch.zeros_like(weight)) for weight in ours]
    for weight, other in zip(ours[:2], theirs[:2], strict=True):  # the last one has no gradient
        weight.grad = torch.randn_like(weight) * scale
        other.grad = weight.grad.clone()
    norm = torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    assert torch.tensor(clip(ours)).equal(norm) or norm.isnan()
    for weight, other in zip(ours[:2], theirs[:2], strict=True):
        assert weight.grad is not None and other.grad is not None
        assert torch.equal(weight.grad, other.grad) or norm.isnan()
