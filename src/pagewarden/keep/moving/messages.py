"""What the two sides of a migration say, and when it is whole.

    source                                   destination
    OFFER ticket, size                   ->
                                         <-  ACCEPT name (or NO why)
    PAGES / ZEROES ..., ROUND            ->                              as often as it helps, the guest runs
                                         <-  ROUND
    the guest stops
    PAGES / ZEROES ..., REST ..., LAST   ->                              the destination writes down `taken`
                                         <-  TAKEN (or NO why)
    the source is scrubbed

    ASK ticket, name                     ->                              on a new connection, whenever there is doubt
                                         <-  TAKEN, or NO: from now on it never takes it

One step decides, and one side: the destination owns the VM from the moment its ticket says `taken`. Until LAST is sent
the source owns it for sure and goes on by itself. From there until it hears, the source is in doubt: it keeps every
byte and does not run. It asks; a destination that has not taken it writes down `never` before it answers.
"""

OFFER, ACCEPT, PAGES, ZEROES, ROUND, REST, LAST, TAKEN, NO, ASK = range(1, 11)
MOST_STATE = 64 << 20
"""Bytes of the caller's own state."""
