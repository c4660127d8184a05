"""How many rows or images a command could use, and why it left the others out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from synthgen.config.vocabulary import make_printable

WORDS = 5  # unknown words in a line


@dataclass
class UseCounts:
    """Counts of rows or images.

    Attributes:
        used: How many were used.
        left_out: Reason → how many were left out for it.
        first: Reason → the first that was left out for it, in alphabetical order: most come in any order, and a report
            is to be the same each time.
        unknown: What words stand for, such as "types" → the words that name none that is known.
    """

    used: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of them."""
        return self.used + self.left_out.total()

    def leave_out(self, reason: str, where: str) -> None:
        """Count one that is left out."""
        self.left_out[reason] += 1
        self.first[reason] = min(self.first.get(reason, where), where)

    def unknown_words(self, kind: str) -> Counter[str]:
        """Return the counter of the unknown words for a kind of name."""
        return self.unknown.setdefault(kind, Counter())

    def lines(self, name: str, noun: str) -> Iterator[str]:
        """Yield how many were used, why the others were left out, and the commonest unknown words."""
        left_out = self.left_out.total()
        yield make_printable(f"{name}: {self.total:,} {noun}, {self.used:,} used, {left_out:,} left out")
        for reason, times in self.left_out.most_common():
            yield make_printable(f"  {times:>7,} {reason:<16} first: {self.first[reason]}")
        for kind, words in self.unknown.items():
            if words:
                commonest = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
                shown = ", ".join(f"{word!r} ({times:,})" for word, times in commonest)
                yield make_printable(f"  {words.total():,} unknown words for {kind}: {shown}")

    def reasons(self) -> str:
        """Return why some were left out, in one line; empty if none was."""
        return ", ".join(f"{times:,} {reason}" for reason, times in self.left_out.most_common())
