"""A run made ready: what was asked for, the definition files it names, and the record of its output folder."""
