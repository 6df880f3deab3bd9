"""What is closed when a `with` block ends."""

from typing import Self


class Closing:
    """A context manager over `close`."""

    def close(self) -> None:
        """Give everything back."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
