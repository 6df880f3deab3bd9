"""What `--json` prints, a struct a document: docs/schema and docs/json.md are made from them.

Every key is always there. Keys are only ever added while `schema` is 1; numbers without a finite value are null.
"""
