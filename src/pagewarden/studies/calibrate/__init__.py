"""`calibrate` and `run --predict`: what this host's primitives cost, and whether that predicts whole requests."""
