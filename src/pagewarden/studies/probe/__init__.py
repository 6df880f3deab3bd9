"""`probe`: every way to touch a page on every kind of memory, held against what the law says of it."""
