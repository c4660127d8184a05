"""`synth audit`: people label a sample of the kept pairs, and the labels measure the set and its scores."""

from synthgen.commands.audit.command import AuditRequest, audit, results_text

__all__ = ["AuditRequest", "audit", "results_text"]
