"""The refusal of an image, which each step of reading one can raise."""

from synthgen.errors import Failure, one_line

DETAIL_LENGTH = 200  # characters


class Unfit(Exception):
    """An image that cannot be used. Raised inside decoding; the decoder pool gives its `failure` instead."""

    def __init__(self, reason: str, detail: str) -> None:
        """Take one of tables.QUARANTINE_REASONS and one line of detail."""
        super().__init__(reason, detail)
        self.failure = Failure(reason, one_line(detail, DETAIL_LENGTH))

    def __str__(self) -> str:
        return str(self.failure)
