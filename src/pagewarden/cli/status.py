"""How a verb ends: 0 yes, 1 the answer is no, 2 the user or the host can mend it, 3 a bug of ours. The one place.

A 2 is one line on standard error: what, why, what to do. Ctrl-C is 130 and a reader that went away 141, as a shell has
it of any program that a signal ends; neither says anything, but a verb may say what it has kept.
"""

import _thread
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import NoReturn, ParamSpec

import typer

from pagewarden import __version__
from pagewarden.cli.limited import watched
from pagewarden.vocab.host import OUTPUT, mendable, naming

MISTAKE, BUG, INTERRUPTED, NO_READER = 2, 3, 130, 141
Given = ParamSpec("Given")


def with_status(verb: Callable[Given, None]) -> Callable[Given, None]:
    """The verb, ending with a status whatever happens in it, its output written out."""

    @wraps(verb)
    def guarded(*arguments: Given.args, **options: Given.kwargs) -> None:
        status = 0
        try:
            try:
                verb(*arguments, **options)
            except typer.Exit as said:
                status = said.exit_code
            with naming(OUTPUT):
                sys.stdout.flush()
        except BaseException as error:
            status = status_of(error)
        raise typer.Exit(status)

    return guarded


def main_of(app: typer.Typer) -> NoReturn:
    """Run the command line and end the process."""
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # while all was imported another one was there
        _open_standard_files()
        with _interrupts_kept():
            status = watched(lambda: _parsed(app))
    except BaseException as error:
        status = status_of(error)
    raise SystemExit(status)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Ctrl-C while a finalizer or a hook runs, which Python would tell of and forget, comes again in a moment."""
    usual = sys.unraisablehook

    def again(lost: "sys.UnraisableHookArgs") -> None:
        if lost.exc_type is not KeyboardInterrupt:
            usual(lost)
            return
        with suppress(RuntimeError):
            _thread.start_new_thread(_interrupt, ())  # this very function is such a place

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _interrupt() -> None:
    time.sleep(0.001)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _parsed(app: typer.Typer) -> int:
    status: int
    try:
        status = app(standalone_mode=False) or 0
        if not status:  # else a verb wrote it out, or has said that it could not
            with naming(OUTPUT):
                sys.stdout.flush()
    except SystemExit as said:  # the parser's own, after shell completion; a verb's never comes here
        status = said.code if isinstance(said.code, int) else BUG
    except BaseException as error:
        status = status_of(error)
    _leave_nothing_unwritten()
    return status


def status_of(error: BaseException) -> int:
    """Say what is to be said of an error, and the status that it means."""
    match error:
        case typer.Exit():
            return error.exit_code
        case KeyboardInterrupt():
            return INTERRUPTED
        case BrokenPipeError():
            return NO_READER
    if words := mendable(error):
        return _mistake(words)
    if hasattr(error, "format_message"):  # of the parser: a wrong option or argument
        return _mistake(f"{error.format_message()}; see pagewarden --help") if str(error) else MISTAKE
    return _bug(error)


def _mistake(text: str) -> int:
    _say(f"pagewarden: {' '.join(text.split())}")
    return MISTAKE


def _bug(error: BaseException) -> int:
    _say("".join(traceback.format_exception(error)).rstrip())
    _say(f"pagewarden: a bug of pagewarden {__version__}; please report it with the lines above: see CONTRIBUTING.md")
    return BUG


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _open_standard_files() -> None:
    """What was closed leads to nothing: else the next file that is opened, a guest's disk, would be standard output."""
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))


def _leave_nothing_unwritten() -> None:
    """What could not be written is not tried again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
