"""`synth evaluate`, part by part."""
