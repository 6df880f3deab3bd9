"""What a person reads and what a program reads: tables and JSON of every verb."""
