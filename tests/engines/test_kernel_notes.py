"""What torchao says of its kernels is left out, and every other warning of the same loggers is shown."""

import logging

import pytest

from synthgen.engines.kernel_notes import silence_kernel_notes

NOTES = (
    ("torchao", "Failed to load /site-packages/torchao/_C_cutlass_90a.abi3.so: Could not load this library"),
    (
        "torch.utils._pytree",
        "<enum 'K'>: Calling register_constant() on Enum subclasses is deprecated",
    ),
)
WARNINGS = (
    ("torchao", "Skipping import of cpp extensions due to incompatible torch version."),
    ("torch.utils._pytree", "a type was registered twice"),
)


def test_the_notes_are_left_out_and_warnings_are_not(caplog: pytest.LogCaptureFixture) -> None:
    silence_kernel_notes()
    silence_kernel_notes()
    with caplog.at_level(logging.WARNING):
        for name, message in (*NOTES, *WARNINGS):
            logging.getLogger(name).warning(message)
    assert [record.getMessage() for record in caplog.records] == [message for _, message in WARNINGS]
    assert all(len(logging.getLogger(name).filters) == 1 for name, _ in NOTES)
