"""`python -m pagewarden`."""

from pagewarden.cli import main

main()
