"""`run`: a guest that boots in private memory and does its I/O, checked byte by byte and count by count."""
