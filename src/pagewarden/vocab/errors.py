"""What can go wrong, told apart: a refusal, a missing feature, a user's mistake, a bug of ours."""

import errno as _errno


class PagewardenError(Exception):
    """Base of every error that the package raises on purpose. They pickle, with their fields."""

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (type(self), self.args, dict(self.__dict__))


def _unpickled(kind: type[PagewardenError], args: tuple[object, ...], fields: dict[str, object]) -> PagewardenError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class Refused(PagewardenError):
    """An operation was checked and turned down; nothing was changed.

    errno: the code a kernel would give; offset: bytes from the start of the memory to the first page at fault, or None.
    """

    def __init__(self, errno: int, why: str, offset: int | None = None) -> None:
        where = "" if offset is None else f" (at offset {offset:#x})"
        super().__init__(f"{_errno.errorcode.get(errno, str(errno))}: {why}{where}")
        self.errno, self.why, self.offset = errno, why, offset


class PrivateAccess(Refused):
    """The host touched a page that is private; offset is the first byte that could not be reached."""


class Unavailable(PagewardenError):
    """This host or build lacks something; advice says how to get it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what, self.advice = what, advice


class UserMistake(PagewardenError):
    """The input is wrong. The command line prints the message and exits with 2."""


class InternalError(PagewardenError):
    """A bug of pagewarden itself: an invariant did not hold."""
