"""Which answers of a question are ranked clearly: votes of the answer, its further samples and its other form.

Self-consistency preference optimization (arXiv 2411.04109) prefers the answer that most samples agree on to the one
that fewest do, and trusts the pair by the difference of their shares. Here the preferred answer must also be one that
`select` kept. No judge has seen the rejected answers, so the shares are all that ranks them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synthgen.config.replies import OPTIONS, letter_of, letters
from synthgen.stages.generate.measures.further_answers import IN_WORDS
from synthgen.stages.generate.similarity import decisive_part, normalize
from synthgen.tables import make_id

SOURCES = ("consistency", "agreement", "other_form")  # scores that keep other answers in their detail
# Why a kept pair gave no preference.
NO_SAMPLES = "no_samples"
NOT_CLUSTERED = "not_clustered"
UNANIMOUS = "unanimous"
NOT_MAJORITY = "not_majority"
BELOW_MARGIN = "below_margin"
UNUSABLE = "unusable"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cluster:
    """Answers that say the same: one of them, how many there are, and the score that has it."""

    text: str
    votes: int
    source: str


@dataclass(frozen=True)
class Preference:
    """An answer that was rejected for the one that was kept.

    Attributes:
        source: The score whose detail has it.
        chosen_share: The share of all answers that say what the kept one says.
        rejected_share: The same for the rejected one.
        votes: The number of answers.
    """

    rejected: str
    source: str
    chosen_share: float
    rejected_share: float
    votes: int


def prefer(pair: Row, details: Mapping[str, str], margin: float) -> Preference | str:
    """Return the preference of a kept pair, or why it has none.

    Args:
        pair: With pair_id, form and answer.
        details: Those of SOURCES that were measured → the JSON of their rows.
        margin: The least difference of the shares.
    """
    clusters = _clusters(pair, {name: json.loads(detail) for name, detail in details.items()})
    if isinstance(clusters, str):
        return clusters
    own, *others = clusters
    votes = own.votes + sum(other.votes for other in others)
    if not others:
        return UNANIMOUS
    if own.votes <= max(other.votes for other in others):
        return NOT_MAJORITY
    least = min(other.votes for other in others)
    if (own.votes - least) / votes < margin - 1e-9:
        return BELOW_MARGIN
    usable = sorted(
        (make_id("preference", pair["pair_id"], text), text, other)
        for other in others
        if other.votes == least and (text := _usable(other.text, pair))
    )
    if not usable:
        return UNUSABLE
    _, text, rejected = usable[0]
    return Preference(text, rejected.source, own.votes / votes, least / votes, votes)


def _clusters(pair: Row, details: Mapping[str, Any]) -> list[Cluster] | str:
    """Return the answers in clusters of one meaning, that of the kept answer first, or why there are none.

    Sentences are sorted by a judge (`consistency`) alone; what is answered in words is also sorted by the words.
    """
    in_words = pair["form"] in IN_WORDS
    if "consistency" in details:
        sizes, meanings = details["consistency"]["sizes"], details["consistency"]["meanings"]
        clusters = [Cluster(text, size, "consistency") for text, size in zip(meanings, sizes, strict=True)]
    elif "agreement" in details and in_words:
        samples = details["agreement"]["samples"]
        clusters = _by_words(
            [Cluster(pair["answer"], 1, ""), *(Cluster(text, 1, "agreement") for text in samples)], pair
        )
    else:
        return NOT_CLUSTERED if "agreement" in details else NO_SAMPLES
    if in_words and "other_form" in details and (text := _in_form(details["other_form"]["answer"], pair)):
        clusters = _by_words([*clusters, Cluster(text, 1, "other_form")], pair)
    return clusters


def _by_words(clusters: list[Cluster], pair: Row) -> list[Cluster]:
    """Return clusters of which those with the same words are joined, the first of them first."""
    joined: dict[str, Cluster] = {}
    for cluster in clusters:
        words = normalize(decisive_part(cluster.text, pair["form"]))
        first = joined.get(words, Cluster(cluster.text, 0, cluster.source))
        joined[words] = Cluster(first.text, first.votes + cluster.votes, first.source)
    return list(joined.values())


def _in_form(answer: str, pair: Row) -> str | None:
    """Return what an answer that was worked out comes to, as the pair's own form says it."""
    said = decisive_part(answer, "detailed").removeprefix("Answer:").strip()
    return letter_of(said) if pair["form"] == "choice" else said or None


def _usable(text: str, pair: Row) -> str | None:
    """Return a rejected answer as a turn has it, or None where it is no answer: empty, no letter, or the kept one."""
    said = letter_of(text) if pair["form"] == "choice" else text.strip()
    if pair["form"] == "choice" and said not in letters(OPTIONS):
        return None
    return said if said and said != pair["answer"].strip() else None


def details_of(scores: Mapping[str, Mapping[str, Row]], pair_id: str) -> Iterator[tuple[str, str]]:
    """Yield the scores of a pair that keep other answers, each with its detail; a score without a value has none."""
    for name in SOURCES:
        row = scores.get(name, {}).get(pair_id)
        if row and row["value"] is not None and row["detail"]:
            yield name, row["detail"]
