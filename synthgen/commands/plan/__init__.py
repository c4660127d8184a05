"""`synth plan`: the questions that a run would ask and their cost, before anything is asked.

The plan is drawn by the code that commits it, and the engine is measured by the code that generates; only the profile
of the engine is written.
"""

from synthgen.commands.plan.estimate import EstimateRequest, Forecast, forecast
from synthgen.commands.plan.report import as_json, text
from synthgen.commands.plan.running import PlanPrice

__all__ = ["EstimateRequest", "Forecast", "PlanPrice", "as_json", "forecast", "text"]
