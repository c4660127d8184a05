"""`synth mix`: several runs and imported sets become one data set, stage by stage of a training.

`survey` reads the samples and pairs of the folders of a stage, `choice` decides which are taken (without those that
another set has too, by weights and quotas), and `write` writes them as shards. The result is a folder whose `5-shards`
are those of a run, so it is trained on, exported and pushed as one. A mixture that was killed goes on where it was.
"""

from synthgen.commands.mix.command import Mixed, as_json, mix, text

__all__ = ["Mixed", "as_json", "mix", "text"]
