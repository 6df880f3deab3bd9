"""How long a test waits for what must come."""

SOON = 300.0
"""Seconds, on a slow and busy machine too: only a test that fails waits for them."""
