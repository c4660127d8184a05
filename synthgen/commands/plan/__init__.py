"""`synth plan`: the questions that a run would ask and their cost, before anything is asked.

The plan is drawn by the code that commits it, and the engine is measured by the code that generates; only the profile
of the engine is written, and with a name the mapping that follows from a student.
"""

from synthgen.commands.plan.estimate import EstimateRequest, Forecast, forecast
from synthgen.commands.plan.report import as_json, text
from synthgen.commands.plan.running import PlanPrice
from synthgen.commands.plan.steering import Steering, advice, steer

__all__ = ["EstimateRequest", "Forecast", "PlanPrice", "Steering", "advice", "as_json", "forecast", "steer", "text"]
