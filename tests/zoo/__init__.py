"""Tiny checkpoints of the families of vision-language models, and what holds for each of them."""
