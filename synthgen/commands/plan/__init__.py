"""What a run would do and cost, before it does: `synth plan`.

Comes in: a job whose output folder holds tagged images. Goes out: how many questions of each type would be planned, how many
of them are still to be asked, and what that takes in tokens, GPU-hours and money (`reckoning`, `price`), by a profile of this
engine (`profiles`); on demand what an edit adds, takes back and keeps beside the committed plan (`counting`). The plan is drawn
by the code that commits it and the profile is measured by the code that generates; nothing is written but the profile.
"""

from synthgen.commands.plan.estimate import EstimateRequest, Forecast, forecast
from synthgen.commands.plan.report import as_json, text

__all__ = ["EstimateRequest", "Forecast", "as_json", "forecast", "text"]
