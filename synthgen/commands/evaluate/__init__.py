"""`synth evaluate`: a model asked questions whose answers are known, and how right it is, with how sure that is.

`question` is what is asked, and `question_set` pins it in the folder of the evaluation, from shards (`from_shards`) or
a file of the user (`from_files`, `file_row`). `replies` says which calls that makes, in the words of `wording`;
`worker` makes them. `judging` reads the replies, `items` puts them together, `shift_check` and `bootstrap` have the
statistics, `summary` and `report` the numbers. `lmms_eval` and `vlmevalkit` write the forms of those harnesses.
"""

from synthgen.commands.evaluate.command import EXPORTS, EvaluateRequest, check_request, evaluate
from synthgen.commands.evaluate.report import report

__all__ = ["EXPORTS", "EvaluateRequest", "check_request", "evaluate", "report"]
