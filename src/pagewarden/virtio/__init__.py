"""A virtio block device (virtio 1.2, 2.7 and 5.2). Rings and requests are the guest's, so they are hostile: read once,
validated, bounded. It knows memory by the port only.

    from pagewarden.virtio.device import BlockDevice
"""
