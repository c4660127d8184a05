"""Everything that shapes the scores of a pass, and the hashes by which a score is known to be current.

A score depends on the model of its pass, on the options of its engine that shape replies, and on its own prompts and
sampling. Everything else that a call shows (the image, the question, the answer) is the pair's, which gets another id
when it changes.
"""

import json
from dataclasses import dataclass
from typing import Any

from synthgen.config.engine import EngineConfig
from synthgen.config.prompt_file import PackFile
from synthgen.config.prompt_pack import Prompts
from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.engines import ModelName
from synthgen.engines.kinds import reply_options
from synthgen.stages.contract import Job, ScoringPass
from synthgen.stages.generate.conversation import ConversationContext
from synthgen.stages.generate.scoring import call_keys, pass_settings
from synthgen.store import Folder
from synthgen.tables import make_id, pass_of_score, score_name


@dataclass(frozen=True)
class PassContext:
    """Everything that a worker of a pass needs to know.

    Attributes:
        judge: The pass.
        prompts: Of the model that wrote the pairs: the longest answers are by these.
        retry: Reasons of failures that are tried again.
        before: The pass that it waits for; None where it waits for none.
    """

    out: Folder
    source: SourceConfig
    images: ImagesConfig
    judge: ScoringPass
    prompts: Prompts
    seed: int
    retry: frozenset[str] = frozenset()
    before: "PassContext | None" = None

    @property
    def name(self) -> str:
        """The name of the pass."""
        return self.judge.name

    @property
    def model(self) -> ModelName:
        """The model that measures."""
        return self.judge.model

    @property
    def engine(self) -> EngineConfig:
        """The settings of its engine."""
        return self.judge.settings.engine

    def conversations(self) -> ConversationContext:
        """Return the settings that all conversations share."""
        settings = self.judge.settings
        return ConversationContext(self.judge.prompts, settings.sampling, settings.scores, self.seed)

    def fingerprints(self) -> dict[str, str]:
        """Return for each score, by its name in the pass, the hash of what shapes its values beyond the pair."""
        shape = shape_of(self.judge)
        made_by = json.dumps([shape["model"], shape["engine"]], sort_keys=True)
        return {
            name: make_id("pass", name, made_by, json.dumps(settings, sort_keys=True))
            for name, settings in shape["scores"].items()
        }

    def longest_reply(self) -> int:
        """Return about how many tokens the longest reply of a call has; a given answer counts as one."""
        keys = [key for name in self.judge.settings.scores for key in call_keys(name)]
        packs = (self.judge.prompts.pack, self.prompts.pack) if "answer" in keys else (self.judge.prompts.pack,)
        return max((tokens for pack in packs for key in keys for tokens in _replies(pack, key)), default=1)


def contexts_of(job: Job, retry: frozenset[str] = frozenset()) -> tuple[PassContext, ...]:
    """Return the context of each pass of a job: in the order of the pipeline, but none before the one it waits for."""
    return tuple(context for wave in waves_of(job, retry) for context in wave)


def waves_of(job: Job, retry: frozenset[str] = frozenset()) -> list[tuple[PassContext, ...]]:
    """Return the contexts of the passes of a job in waves: those of each wait for passes of earlier waves alone."""
    pipeline, prompts = job.pipeline, job.definitions.prompts
    shared = job.out, pipeline.source, pipeline.images
    known: dict[str | None, PassContext | None] = {None: None}  # what waits for no pass can start
    waves = list[tuple[PassContext, ...]]()
    left = list(job.passes)
    while left:
        ready = [judge for judge in left if waits_for(judge) in known]
        assert ready, f"passes wait for each other: {[judge.name for judge in left]}"
        wave = tuple(
            PassContext(*shared, judge, prompts, pipeline.plan.seed, retry, known[waits_for(judge)]) for judge in ready
        )
        known |= {context.name: context for context in wave}
        left = [judge for judge in left if judge not in ready]
        waves.append(wave)
    return waves


def waits_for(judge: ScoringPass) -> str | None:
    """Return the name of the pass that a pass waits for; None for none, or for a score of `generate`."""
    return pass_of_score(judge.after.score) if judge.after else None


def shape_of(judge: ScoringPass) -> dict[str, Any]:
    """Return everything that shapes the scores of a pass, as JSON values."""
    settings, pack = judge.settings, judge.prompts.pack
    return {
        "model": judge.model.named,
        "engine": reply_options(settings.engine),
        "scores": {name: pass_settings(name, pack, settings.sampling) for name in settings.scores},
        **({"after": judge.after.model_dump(mode="json")} if judge.after else {}),
    }


def table_of(context: PassContext, name: str) -> str:
    """Return the table of a score in `3-scored`."""
    return f"scores/{score_name(context.name, name)}"


def _replies(pack: PackFile, key: str) -> list[int]:
    """Return the most tokens of the replies to the prompts at a key."""
    if key == "answer":
        return [prompt.max_tokens for prompt in pack.answer.values()]
    prompt = pack.reasoning if key == "reasoning" else pack.score_prompt(key)
    return [getattr(prompt, "max_tokens", 1)]
