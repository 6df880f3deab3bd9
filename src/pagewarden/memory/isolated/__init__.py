"""The room of a host side that is not trusted: its process, what it may do there, and what it may say.

`window` is the backing, `process` the warden's end, `side` the inside, `zygote` what forks host sides, `sandbox` what
is taken away from them, `messages` the words between the two.
"""
