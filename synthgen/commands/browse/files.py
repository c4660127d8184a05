"""The definition files of a run, read once when a page first asks why something was asked, or how."""

from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from synthgen.errors import SynthError
from synthgen.job.stored import stored_job
from synthgen.stages import generate, plan
from synthgen.stages.contract import Job
from synthgen.stages.generate import GenerateContext
from synthgen.stages.generate.context import Recipes
from synthgen.stages.plan.epochs import latest_epoch
from synthgen.store import RunFolder


@dataclass(frozen=True)
class Files:
    """A job with what its plan and its conversations are made of."""

    job: Job
    folder: RunFolder

    @cached_property
    def assigner(self) -> plan.Assigner:
        """What draws the questions of images, by the numbers of the last epoch of the plan."""
        context, epoch = plan.context_of(self.job), latest_epoch(self.folder)
        if epoch is None:
            return plan.Assigner(context, {})
        return plan.Assigner(context, epoch.factors, epoch.rarity, epoch.companions)

    @cached_property
    def context(self) -> GenerateContext:
        """What shapes pairs."""
        return generate.context_of(self.job)

    @cached_property
    def first_pass(self) -> GenerateContext | None:
        """What shapes questions where another model asks; None where one does both."""
        return self.context.first_pass() if self.context.asker else None

    @cached_property
    def _recipes(self) -> dict[bool, Recipes]:
        contexts = filter(None, (self.first_pass, self.context))
        return {context.is_first_pass: context.recipes() for context in contexts}

    def recipes_of(self, context: GenerateContext) -> Recipes:
        """Return the recipes of a context by the files of now."""
        return self._recipes[context.is_first_pass]


class FilesOfRun:
    """The files of a run, or why they cannot be read."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self._lock = folder, Lock()
        self._found: Files | str | None = None

    def get(self) -> Files | str:
        """Return the files, or one line on why they cannot be read."""
        with self._lock:
            if self._found is None:
                try:
                    self._found = Files(stored_job(self._folder), self._folder)
                except SynthError as error:
                    self._found = str(error)
            return self._found
