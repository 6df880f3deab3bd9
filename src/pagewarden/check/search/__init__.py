"""The explorer: a product of small automata over a packed state, in compiled loops. Nothing here knows the law."""
