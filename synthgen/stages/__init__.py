"""The stages of a run. Each knows the tables before and after it; none imports another."""
