"""The drawn world: a renderer with its scene graphs, two nano models with their recipe, and an oracle of the truth."""
