"""Tests of `synth audit`."""
