"""What torchao says of its own kernels when transformers imports it, which nobody who trains or serves can act on."""

import logging

LOGGERS = ("torchao", "torch.utils._pytree")


def silence_kernel_notes() -> None:
    """Leave out four lines: kernels that are not for this machine, and a call of torch that torch deprecates.

    Every other warning of these libraries is shown. Call it before whatever imports transformers.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if _is_no_kernel_note not in logger.filters:
            logger.addFilter(_is_no_kernel_note)


def _is_no_kernel_note(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    is_library = message.startswith("Failed to load ") and "torchao" in message and ".so" in message
    return not is_library and "register_constant() on Enum subclasses is deprecated" not in message
