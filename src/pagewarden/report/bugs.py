"""What became of the public bugs, for people and for programs."""

from collections.abc import Sequence

from rich.console import Console

from pagewarden.check.bugs import BugFound
from pagewarden.report.console import table
from pagewarden.report.documents.check import PublicBug, PublicBugs


def print_bugs(found: Sequence[BugFound], out: Console) -> None:
    """A line a bug, then what each is and where it was reported."""
    made = table("bug", "property", "with it", "steps", "with its fix", left=3)
    for each in found:
        made.add_row(each.name, each.bug.breaks, each.verdict, str(each.steps or ""), each.fixed)
    out.print(made)
    for each in found:
        out.print(f"\n{each.name}: {each.bug.what}\n  {each.bug.subject} {each.bug.changed}")
        out.print(f"  {each.bug.command}\n  {each.bug.source}")
    wrong = [each.name for each in found if not each.right]
    said = f"not as expected: {', '.join(wrong)}" if wrong else "each is found, and each fix holds"
    out.print(f"\n{len(found)} bugs: {said}")


def bugs_document(found: Sequence[BugFound]) -> PublicBugs:
    """The same for programs."""
    return PublicBugs(bugs=[_bug(each) for each in found])


def _bug(found: BugFound) -> PublicBug:
    bug = found.bug
    return PublicBug(
        found.name, bug.source, bug.subject, bug.changed, bug.command, bug.breaks, found.verdict, found.steps,
        found.fixed,
    )  # fmt: skip
