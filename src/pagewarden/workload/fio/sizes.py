"""How long fio's requests are: a span in steps, or a weighted choice. A fixed size is a span of one."""

from dataclasses import dataclass

from pagewarden.workload.fio.given import SectionOptions
from pagewarden.workload.fio.sections import Option
from pagewarden.workload.fio.units import by_direction, span, switch, whole
from pagewarden.workload.model import MAX_LENGTH


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lengths of requests in bytes: from smallest to largest, multiples of step (fio: bs, bsrange; step 1 is
    bs_unaligned), or one of the choices, each with its per cent, in the order in which fio looks at them (bssplit)."""

    smallest: int
    largest: int
    step: int
    choices: tuple[tuple[int, int], ...] = ()

    @property
    def mean(self) -> float:
        """Of a choice or an even spread."""
        if self.choices:
            return sum(size * share for size, share in self.choices) / 100
        return (self.smallest + self.largest) / 2


def sizes_of(options: SectionOptions, random: bool) -> tuple[Sizes, Sizes]:
    """Sizes of reads and of writes: bssplit goes before bsrange, and that before bs, wherever they stand (fio 3.33).

    With bs_is_seq_rand the first value is for sequential requests of either direction and the second for random ones.
    """
    for key, parse in (("bssplit", _split), ("bsrange", _range), ("bs", _fixed)):
        option = options.given.get(key)
        if option is not None:
            read, write = by_direction(option)
            if switch(options.given.get("bs_is_seq_rand")):
                read = write = write if random else read
            return parse(options, option, read), parse(options, option, write)
    return Sizes(4096, 4096, 4096), Sizes(4096, 4096, 4096)


def _fixed(options: SectionOptions, option: Option, text: str | None) -> Sizes:
    first = None if text is None else text.partition("-")[0]  # fio 3.33 reads no further in `bs=4k-512k`
    size = 4096 if first is None else whole(option, first, options.kb_base, 1, MAX_LENGTH)
    return Sizes(size, size, size)


def _range(options: SectionOptions, option: Option, text: str | None) -> Sizes:
    if text is None:
        option.refuse("bsrange as LOW-HIGH[,LOW-HIGH]")
    low, high = span(option, text, options.kb_base, 1, MAX_LENGTH)
    return Sizes(low, high, _step(options, low))


def _step(options: SectionOptions, smallest: int) -> int:
    return 1 if switch(options.given.get("bs_unaligned")) else smallest


def _split(options: SectionOptions, option: Option, text: str | None) -> Sizes:
    """SIZE/PERCENT:SIZE/PERCENT...; sizes without a percentage share what is left (fio 3.33: in whole per cent)."""
    sizes, shares = [], []
    for part in (text or "").split(":"):
        size, _, share = part.partition("/")
        sizes.append(whole(option, size, options.kb_base, 1, MAX_LENGTH))
        shares.append((whole(option, share, 1024, 0, 100) or None) if share else None)  # 0 is read as none
    left = 100 - sum(share for share in shares if share is not None)
    open_shares = shares.count(None)
    if left < 0 or (left > 0 and not open_shares):
        option.refuse("percentages that add up to 100")
    each = left // max(1, open_shares)
    choices = [(size, each if share is None else share) for size, share in zip(sizes, shares, strict=True)]
    choices.sort(key=lambda choice: choice[1])
    return Sizes(min(sizes), max(sizes), _step(options, min(sizes)), tuple(choices))
