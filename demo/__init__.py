"""The drawn world: a renderer with its scene graphs, two nano models and their recipe, and an oracle of the truth."""
