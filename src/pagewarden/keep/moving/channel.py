"""Sealed records over a stream: who has not the key can read, change, leave out, repeat or reorder none of them.

Each side sends a hello in clear (magic, an X25519 key made for this connection, a nonce). From the key that both have
and the exchange, bound to both hellos, HKDF-SHA-256 makes one AES-256-GCM key for each direction; a record's nonce is
its number. So a connection that was recorded stays closed to who gets the key later, and nothing of one connection or
direction passes for another's. That the other side has the key is known with its first record, not before.
"""

import errno
import hashlib
import os
import secrets
import socket
from struct import Struct
from typing import Any

from pagewarden.keep.seal import BATCH, TAG, wipe
from pagewarden.vocab import PAGE_SIZE, Refused, Unavailable, UserMistake

MAGIC = b"pagewarden move1"
KEY = 32
"""Bytes of the key that both sides have."""
_HELLO = 16 + 32 + 16
_LENGTH = Struct(">I")
HEAD = Struct("<II")
"""Of a record's plain bytes: its kind, and a number that goes with it."""
MOST = HEAD.size + BATCH * (8 + PAGE_SIZE) + TAG
"""Bytes of a record: a longer one is not even read."""


class Channel:
    """One connection, which it does not own. Every method raises Refused: ECONNRESET where the connection ends or is
    silent for `patience` seconds, EBADMSG for a record that is not the next of who has the key, EPROTO for nonsense."""

    def __init__(self, connection: socket.socket, key: bytes, *, calls: bool, patience: float) -> None:
        """calls: this side has connected. UserMistake, Unavailable, Refused."""
        if len(key) != KEY:
            raise UserMistake(f"the key of a migration has {KEY} bytes, not {len(key)}")
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        except ImportError as error:
            raise Unavailable("a migration needs the package cryptography", "pip install 'pagewarden[keep]'") from error
        self._connection, self._wrong = connection, InvalidTag
        connection.settimeout(patience)
        secret = X25519PrivateKey.generate()
        own = MAGIC + secret.public_key().public_bytes_raw() + secrets.token_bytes(16)
        self._sent = self._came = 0
        if calls:
            self._push(own)
        other = bytearray(_HELLO)
        self._pull(memoryview(other))
        if not other.startswith(MAGIC):
            raise Refused(errno.EPROTO, f"the other side speaks no migration of this version ({MAGIC.decode()})")
        if not calls:
            self._push(own)
        both = (own, bytes(other)) if calls else (bytes(other), own)
        self._keys(key, secret, bytes(other[16:48]), b"".join(both), calls)
        self._out, self._in = bytearray(_LENGTH.size + MOST), bytearray(MOST)
        self._plain = memoryview(bytearray(MOST))

    def _keys(self, key: bytes, secret: Any, other: bytes, hellos: bytes, calls: bool) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        try:
            exchanged = secret.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError as error:  # a key of small order
            raise Refused(errno.EPROTO, "the other side's hello has no usable key") from error
        made = HKDF(SHA256(), 64, hashlib.sha256(hellos).digest(), MAGIC).derive(key + exchanged)
        mine, theirs = AESGCM(made[:32]), AESGCM(made[32:])
        self._seal: Any
        self._open: Any
        self._seal, self._open = (mine, theirs) if calls else (theirs, mine)

    def send(self, kind: int, number: int = 0, *parts: Any) -> None:
        """One record: the parts, bytes-like, one after the other."""
        plain, at = self._plain, HEAD.size
        HEAD.pack_into(plain, 0, kind, number)
        for part in parts:
            data = memoryview(part).cast("B")
            plain[at : at + len(data)] = data
            at += len(data)
        out = memoryview(self._out)[: _LENGTH.size + at + TAG]
        _LENGTH.pack_into(out, 0, at + TAG)
        self._seal.encrypt_into(
            self._sent.to_bytes(12, "big"), plain[:at], bytes(out[: _LENGTH.size]), out[_LENGTH.size :]
        )
        self._sent += 1
        self._push(out)

    def receive(self) -> tuple[int, int, memoryview]:
        """The next record's kind, number and bytes, which stay until the next call of either method."""
        head = bytearray(_LENGTH.size)
        self._pull(memoryview(head))
        (length,) = _LENGTH.unpack(head)
        if not HEAD.size + TAG <= length <= MOST:
            raise Refused(errno.EPROTO, f"a record of {length} bytes comes: there are none of that length")
        sealed = memoryview(self._in)[:length]
        self._pull(sealed)
        plain = self._plain[: length - TAG]
        try:
            self._open.decrypt_into(self._came.to_bytes(12, "big"), sealed, bytes(head), plain)
        except self._wrong:
            why = "a record is not the next one that the key's owner sent: another key, or it was changed on the way"
            raise Refused(errno.EBADMSG, why) from None
        self._came += 1
        kind, number = HEAD.unpack_from(plain)
        return kind, number, plain[HEAD.size :]

    def _push(self, data: Any) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise self._cut(error) from error

    def _pull(self, target: memoryview) -> None:
        while target:
            try:
                done = self._connection.recv_into(target)
            except OSError as error:
                raise self._cut(error) from error
            if not done:
                raise self._cut(OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
            target = target[done:]

    def _cut(self, error: OSError) -> Refused:
        unheard = "" if self._came else ", before a word that the key opens: perhaps the other side has another one"
        return Refused(errno.ECONNRESET, f"the connection of the migration ended: {error.strerror or error}{unheard}")

    def wipe(self) -> None:
        """Nothing of what went or came stays in this process."""
        wipe(self._plain)
