"""The model checker: every interleaving of guest, VMM and a hostile host over the tables of the law.

`page` goes from the law to small automata, `search` explores their product and knows no law, `export` writes the same
system for other checkers; `verdict`, `replay` and `explain` say what was found; `minimal`: which mechanisms suffice.
"""
