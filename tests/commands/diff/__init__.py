"""Tests of `synth diff`."""
