"""What is still to be asked and scored.

The driver knows from commits alone which partitions have something pending. A worker knows from the rows of a partition
which assignments have no outcome by the current recipe and which pairs lack a score. A score added later is computed
over the pairs that exist and never touches them, and so is one that is tried again because a call failed.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from synthgen.config.source import ImagesConfig
from synthgen.ingest.images import Decoded
from synthgen.stages.generate.asking import AskedQuestion, PreparedImage
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.conversation import Assignment
from synthgen.stages.generate.questions import read_questions
from synthgen.store import CommitLog, RunFolder, StageFolder
from synthgen.store.commits import EMPTIED
from synthgen.tables import ASK, GENERATE, PLAN, UNSCORED, score_failure
from synthgen.workers import Task

Row = dict[str, Any]
NO_OUTCOMES = ("retired", "reasked", *UNSCORED)  # counted beside the outcomes of assignments


@dataclass
class PendingImage:
    """What is pending for one image.

    Attributes:
        row: Of PLANNED_IMAGES.
        assignments: To be asked.
        unscored: Rows of PAIRS, each with the names of the scores that it lacks.
        earlier: Rows of PAIRS (in the first of two passes of QUESTIONS) that stay as they are, of the same image.
        questions: Of assignments, by their id: in the second of two passes all, else those of negatives once they are
            asked.
        has_calls: Whether a call about the image is to be made. None is where all questions failed in the first pass,
            or where the first pass leaves all of them to the second.
    """

    row: Row
    assignments: list[Assignment] = field(default_factory=list)
    unscored: list[tuple[Row, list[str]]] = field(default_factory=list)
    earlier: list[Row] = field(default_factory=list)
    questions: dict[str, AskedQuestion] = field(default_factory=dict)
    has_calls: bool = True

    @property
    def unasked_negatives(self) -> list[Assignment]:
        """The negatives whose questions are to be written for another image."""
        return [each for each in self.assignments if each.partner and each.assignment_id not in self.questions]


@dataclass(frozen=True)
class Pending:
    """What is pending in a partition.

    Attributes:
        images: By the id of the object that stands for the image.
        never_asked: The number of assignments that were retired before they had an outcome.
        live: The ids of the assignments that are to have an outcome.
        partners: By image_id, the rows of PLANNED_IMAGES of the images that questions of negatives are written for.
    """

    images: dict[str, PendingImage]
    never_asked: int
    live: frozenset[str] = frozenset()
    partners: Mapping[str, Row] = field(default_factory=dict)


def todo(folder: RunFolder, context: GenerateContext, is_update: bool, epoch: int = 1) -> list[Task]:
    """Return the partitions with something pending.

    Args:
        folder: The commits so far.
        context: The settings that pairs are made with now.
        is_update: Whether pairs of other recipes and scores made otherwise are done again.
        epoch: Of the new commits.
    """
    spec, planned, wanted = context.spec, folder.log(PLAN), context.fingerprints()
    generated = folder.log(spec)
    tasks = []
    for partition in planned.partitions:
        if not planned.holds(partition):  # it is to be planned again first
            continue
        if context.asker and not _is_asked(folder, partition):  # its questions are still to be written
            continue
        latest = generated.latest(partition)
        is_asked = latest is not None and latest.receipt.reads == folder.digests(spec.inputs, [partition])
        counts = generated.counts([partition])
        is_retried = any(counts.get(f"{kind}.{reason}") for kind in ("failed", "unscored") for reason in context.retry)
        if not is_asked or is_retried or (is_update and _is_stale(generated, partition, wanted)):
            inputs = folder.logs((*spec.inputs, spec), partition)
            tasks.append(Task(partition, generated.next_revision(partition), inputs, epoch=epoch))
    return tasks


def _is_asked(folder: RunFolder, partition: str) -> bool:
    """Return whether the first of two passes is through a partition."""
    latest = folder.log(ASK).latest(partition)
    return latest is not None and latest.receipt.reads == folder.digests(ASK.inputs, [partition])


def _is_stale(generated: CommitLog, partition: str, wanted: Mapping[str, str]) -> bool:
    """Return whether a partition was asked by other recipes or scored otherwise."""
    return any(generated.fingerprint(partition, table) != made for table, made in wanted.items())


def count_pending(context: GenerateContext, tasks: Iterable[Task]) -> tuple[int, bool]:
    """Return how many assignments are pending, from commits alone, and whether it may turn out to be fewer."""
    wanted = context.fingerprints()
    counts = [_count_pending(context, task, wanted) for task in tasks]
    return sum(count for count, _ in counts), any(is_bound for _, is_bound in counts)


def _count_pending(context: GenerateContext, task: Task, wanted: Mapping[str, str]) -> tuple[int, bool]:
    generated = task.inputs[context.spec.folder]
    planned, done = task.inputs[PLAN.folder].counts(), generated.counts()
    latest = generated.latest(task.partition)
    live, retired = planned.get("assigned", 0), planned.get("retired", 0)
    if latest is None:
        return live, False
    again = sum(done.get(f"failed.{reason}", 0) for reason in context.retry)
    # Only the rows say how many of the retired assignments have an outcome.
    outcomes = sum(count for name, count in done.items() if name not in NO_OUTCOMES)
    pending = live + retired - outcomes + again
    is_given_back = pending <= 0 and not latest.receipt.reads  # when only scores were pending
    if _is_stale(generated, task.partition, wanted) or is_given_back or _is_asked_since(context, task):
        return live, True
    return max(0, min(live, pending)), pending > 0 and bool(retired or again)


def _is_asked_since(context: GenerateContext, task: Task) -> bool:
    """Return whether questions of a partition were written after its outcomes, in the second of two passes."""
    latest = task.inputs[context.spec.folder].latest(task.partition)
    if not context.asker or latest is None or not latest.receipt.reads:
        return False
    return not task.inputs[ASK.folder].digests(ASK, [task.partition]).items() <= latest.receipt.reads.items()


def object_ids(context: GenerateContext, task: Task) -> tuple[str, ...]:
    """Return the objects of a task that have something pending."""
    return tuple(sorted(find_pending(context, task).images))


def find_pending(context: GenerateContext, task: Task) -> Pending:
    """Read a partition and return what is pending in it."""
    folder, recipes, spec = RunFolder(context.out, task.inputs), context.recipes(), context.spec
    rows = folder.table(PLAN, task.partition, "images").to_pylist()
    images = {row["object_id"]: PendingImage(row) for row in rows}
    done = {row["assignment_id"]: row for row in folder.table(spec, task.partition, spec.watched).to_pylist()}
    written = _written(context, folder, task.partition)
    scored = scored_pairs(context, task.inputs[spec.folder], task.partition)
    never_asked, first_attempt, live = 0, _unused_attempt(context, task), set[str]()
    for row in folder.table(PLAN, task.partition, "assignments").to_pylist():
        before = done.get(row["assignment_id"])
        recipe = context.recipe_of(recipes, row)
        if row["retired"] or recipe is None:  # without a recipe its type is gone; the plan's next update retires it
            never_asked += before is None
            continue
        live.add(row["assignment_id"])
        question = written.get(row["assignment_id"])
        if before is None or needs_asking(context, before, recipe) or _is_of_another(before, question):
            attempt = max(before["attempt"] + 1 if before else 0, first_attempt)
            images[row["object_id"]].assignments.append(assignment_of(row, recipe, context.thing_of(row), attempt))
            continue
        if before["outcome"] == spec.passes:
            images[row["object_id"]].earlier.append(before)
        if missing := missing_scores(before, scored):
            images[row["object_id"]].unscored.append((before, missing))
    wanted = set(images if task.only is None else task.only)
    pending = {
        object_id: image
        for object_id, image in images.items()
        if object_id in wanted and (image.assignments or image.unscored)
    }
    for image in pending.values():
        add_questions(context, image, written)
    partner_ids = {each.partner for image in pending.values() for each in image.unasked_negatives}
    partners = {row["image_id"]: row for row in rows if row["image_id"] in partner_ids and not row["same_as"]}
    return Pending(pending, never_asked, frozenset(live), partners)


def _written(context: GenerateContext, folder: RunFolder, partition: str) -> dict[str, Row]:
    """Return the rows of QUESTIONS by assignment, in the second of two passes."""
    rows = folder.table(ASK, partition, "questions").to_pylist() if context.asker else []
    return {row["assignment_id"]: row for row in rows}


def _is_of_another(before: Mapping[str, Any], question: Mapping[str, Any] | None) -> bool:
    """Return whether the question of an outcome was written again since, in other words or with another end."""
    if question is None or question["outcome"] == "follow_up" or before["ask_attempt"] == question["attempt"]:
        return False
    ended = (question["outcome"], question["reason"]) if question["reason"] else (GENERATE.passes, None)
    is_same = all(before[name] == question[name] for name in ("question", "options", "key"))
    return not is_same or (before["outcome"], before["reason"]) != ended


def add_questions(context: GenerateContext, image: PendingImage, written: Mapping[str, Row]) -> None:
    """Add what the first of two passes says of the assignments of an image, and whether any call is left to make."""
    first = [each for each in image.assignments if not context.prompts.type_of(each.type).follows]
    if context.is_first_pass:
        image.has_calls = any(each.partner is None for each in first)
    elif context.asker:
        rows = (written[each.assignment_id] for each in first)
        image.questions = read_questions(rows, first)
        is_answered = any(question.failure is None for question in image.questions.values())
        image.has_calls = is_answered or bool(image.unscored) or len(first) < len(image.assignments)


def needs_asking(context: GenerateContext, before: Mapping[str, Any], recipe: str) -> bool:
    """Return whether an assignment with the outcome `before` is asked again: by another recipe, or as a retry."""
    return before["recipe"] != recipe or before["reason"] in context.retry


def missing_scores(before: Mapping[str, Any], scored: Mapping[str, Set[str]]) -> list[str]:
    """Return the scores that an outcome lacks; a failure has none and needs none."""
    if before["outcome"] != "pair":
        return []
    return [name for name, pair_ids in scored.items() if before["pair_id"] not in pair_ids]


def scored_pairs(context: GenerateContext, log: CommitLog, partition: str) -> dict[str, set[str]]:
    """Return for each score the pairs that have it by its current fingerprint.

    A pair whose score failed is among them, unless the failure is to be tried again.
    """
    stage = StageFolder(context.out, GENERATE)
    reasons = {
        name: score_reasons(stage, log, partition, f"scores/{name}", made)
        for name, made in context.score_fingerprints().items()
    }
    return {name: settled_pairs(of_pairs, context.retry) for name, of_pairs in reasons.items()}


def score_reasons(
    stage: StageFolder, log: CommitLog, partition: str, table: str, fingerprint: str
) -> dict[str, str | None]:
    """Return the reason of each pair whose row in a table of scores is by this fingerprint; None for a value.

    A later row that other settings shaped takes the place of an earlier one, also where the settings are those of the
    earlier one again.
    """
    reasons: dict[str, str | None] = {}
    for part in log.parts(partition, table):
        is_current = part.fingerprint == fingerprint
        for file in part.files if is_current or reasons else ():
            rows = stage.read_file(table, partition, file, ["pair_id", "reason"]).to_pydict()
            if is_current:
                reasons.update(zip(rows["pair_id"], rows["reason"], strict=True))
            else:
                for pair_id in rows["pair_id"]:
                    reasons.pop(pair_id, None)
    return reasons


def settled_pairs(reasons: Mapping[str, str | None], retry: Set[str]) -> set[str]:
    """Return the pairs that need no other row of a score."""
    return {pair for pair, reason in reasons.items() if score_failure(reason) not in retry}


def prepare(pending: PendingImage, loaded: Decoded, settings: ImagesConfig) -> PreparedImage:
    """Return the loaded image or set of a row as conversations take it."""
    key, (first, *more) = image_key(pending.row, settings), loaded.images
    tags = tuple(tag["path"] for tag in pending.row["tags"])
    return PreparedImage(first, key, tags, tuple(pending.earlier), tuple(more))


def image_key(row: Mapping[str, Any], settings: ImagesConfig) -> str:
    """Return the key of the pixels of an image, by which engines know them."""
    return f"{row['image_id'][:32]}-{settings.model_pixels}"


def _unused_attempt(context: GenerateContext, task: Task) -> int:
    """Return an attempt that no emptied row can have had, so that no two texts share an id.

    A revision adds at most one.
    """
    spec = context.spec
    commits = task.inputs[spec.folder].partitions.get(task.partition, ())
    emptied = [
        commit.receipt.revision
        for commit in commits
        if (part := commit.receipt.tables.get(spec.watched)) and part.fingerprint == EMPTIED
    ]
    return max(emptied, default=0)


def assignment_of(row: Mapping[str, Any], recipe: str, thing: str | None, attempt: int = 0) -> Assignment:
    """Return a row of ASSIGNMENTS as a conversation takes it; `thing` is the words of its tag."""
    names = ("assignment_id", "image_id", "object_id", "type", "form", "language", "ordinal")
    given = {name: row[name] for name in names}
    return Assignment(**given, recipe=recipe, attempt=attempt, thing=thing, partner=row["partner"])
