"""Tests of `synth report`."""
