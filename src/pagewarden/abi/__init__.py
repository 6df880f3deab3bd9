"""Kernel structures and numbers as tables that read like the headers, uapi names verbatim; nothing here calls."""
