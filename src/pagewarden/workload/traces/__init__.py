"""Traces of block requests in the forms that people have, one file a form; `table` turns lines into columns.

Every reader has FORMAT, its name for people; `sniff`, whether a file's beginning is of the form; and `read`.
"""
