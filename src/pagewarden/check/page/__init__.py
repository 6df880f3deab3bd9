"""From the law to the explorer: actors, their procedures as flows, and one page's automaton."""
