"""A listing carried out line by line, for one range of pages; compiled engines run `program`'s rows instead."""

from collections.abc import Callable

from pagewarden.designs.steps import Do, Each, Line, Steps, Stop, Take


def follow(
    steps: Steps,
    act: Callable[[Do], bool],
    tell: Callable[[Line], object] = lambda line: None,
    room: Callable[[Take], bool] = lambda take: True,
) -> bool | None:
    """Carry out steps; Each runs once, as for a range of one page.

    act: do an operation and say whether it was done, else its `otherwise` follows. tell: of every other line. room:
    whether a bounded resource has what is taken. Returns None at the end of the steps, or how they stopped: True, or
    False if the request failed.
    """
    for line in steps:
        ended: bool | None = None
        match line:
            case Do(otherwise=otherwise):
                if not act(line):
                    ended = False if otherwise is None else follow(otherwise, act, tell, room)
            case Take(_, then, otherwise):
                tell(line)
                ended = follow(then if room(line) else otherwise, act, tell, room)
            case Each(inside):
                ended = follow(inside, act, tell, room)
            case Stop(_, ok):
                tell(line)
                return ok
            case _:
                tell(line)
        if ended is not None:
            return ended
    return None
