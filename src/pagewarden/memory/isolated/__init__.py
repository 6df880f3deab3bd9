"""The room of a host side that is not trusted: its process, what it may do there, and what it may say.

`window` is the backing, `replace` how a page is taken back, `process` the warden's end, `side` the inside, `zygote`
what forks host sides, `room` what is taken away from them, `allowed` the system calls that are left, `descriptors`
what they are handed, `messages` the words between the two. docs/isolation.md says what all that promises.
"""
