"""A virtio block device (virtio 1.2, 2.7 and 5.2). Rings and requests are the guest's, so they are hostile: read once,
validated, bounded. It knows memory by the port only. May be imported: device, disk, driver, ring.

    import os
    from pagewarden.memory import PrivateMemory
    from pagewarden.virtio.device import BlockDevice
    from pagewarden.virtio.disk import Disk
    from pagewarden.virtio.ring import Ring

    with PrivateMemory(1 << 16, "memfd", shared=True) as memory:
        disk = os.open("examples/randrw.iolog", os.O_RDONLY)
        device = BlockDevice(memory.window, Disk(disk, read_only=True), 1, 8)
        device.resume(1 << 32, {0: Ring.placed(8, 0)})
        print(device.process(0).completed)
        device.close()
    os.close(disk)
"""
