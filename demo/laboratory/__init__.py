"""The laboratory: what each gate is worth and costs, on pictures whose truth is known."""
