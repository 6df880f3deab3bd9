"""The explored system written out for independent checkers (Murphi, Promela, TLA+)."""
