"""What a person reads and what a program reads: tables and JSON of every verb.

A file a verb, with a function that prints and one that makes the document; `documents` has the structs of those, and
`docs` writes what the documentation has from the program. Imported by the command line alone.
"""
