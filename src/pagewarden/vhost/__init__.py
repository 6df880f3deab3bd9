"""A virtio device behind a vhost-user socket, for QEMU and any other front end: `pagewarden serve` for programs.

The front end and its guest are hostile: every message is checked against the table of its kind, then against what was
said before. `blk.serve_block` serves a disk; `server.Server` any device. May be imported: blk, hosts, messages,
regions, server, session.

    import socket
    from pagewarden.vhost.messages import receive

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(bytes([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]))
        print(receive(ours))
"""
