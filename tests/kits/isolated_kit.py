"""What a host side of a small memory says."""

from pagewarden.memory import PAGE_SIZE
from pagewarden.memory.isolated.messages import MessageKind
from pagewarden.memory.isolated.process import HostProcess
from waits import SOON

PAGES = 8


def heard(host: HostProcess) -> tuple[int, bytes]:
    message = host.receive(SOON)
    assert message is not None and message.kind is MessageKind.REPORT, message
    return message.value, message.data


def seen(host: HostProcess, page: int) -> bytes | None:
    """What `peek` sees of the page: None when it is refused, at the offset of the page."""
    host.tell(page)
    value, data = heard(host)
    assert value == 0 or int(data) == page * PAGE_SIZE
    return data if value == 0 else None
