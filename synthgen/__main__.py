"""`python -m synthgen` is `synth`, for a machine where the script is not on the path, and for tests that kill it."""

from synthgen.cli import main

main()
