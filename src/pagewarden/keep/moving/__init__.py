"""A whole VM's memory on its way to another process, by a socket that anybody may listen to, change or cut.

In the process that it leaves, `Departure(memory, key).send(connection, stop, go_on)`; in the one that it comes to,
`receive(connection, key, Tickets(folder), make)`; docs/keep.md shows both.
`messages` has the protocol, and says which side owns the VM at which moment.
"""

from pagewarden.keep.moving.callers import Callers
from pagewarden.keep.moving.destination import Arrival, receive
from pagewarden.keep.moving.source import Departure, InDoubt
from pagewarden.keep.moving.tickets import Tickets

__all__ = ["Arrival", "Callers", "Departure", "InDoubt", "Tickets", "receive"]
