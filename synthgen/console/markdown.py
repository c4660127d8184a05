"""Text and tables of cards: what comes from data, models or settings is shown as it is, and interpreted as nothing."""

from collections.abc import Iterable, Sequence

PLAIN = frozenset(" -.,;/()%+=")  # beside letters and digits; Markdown does not interpret them inside a line


def escape(text: object, length: int = 200) -> str:
    """Return a text as one line that Markdown and HTML show unchanged."""
    line = " ".join(str(text).split())
    line = line if len(line) <= length else line[: length - 1] + "…"
    return "".join(c if c.isalnum() or c in PLAIN else f"&#{ord(c)};" for c in line)


def make_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, is_escaped: bool = False) -> str:
    """Return a table; cells are escaped, unless they are already."""
    cells = ([cell if is_escaped else escape(cell) for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


CITE = """## How to cite
```bibtex
@software{synthgen,
  title = {synthgen},
  author = {{The synthgen authors}},
}
@article{gu2024infinitymm,
  title = {Infinity-MM: Scaling Multimodal Performance with Large-Scale and High-Quality Instruction Data},
  author = {Gu, Shuhao and others},
  journal = {arXiv preprint arXiv:2410.18558},
  year = {2024},
}
```

The second is the method that `synth` follows. Cite the source of the images and the model that answered too."""
