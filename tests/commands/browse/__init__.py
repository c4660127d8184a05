"""Tests of `synth browse`."""
