"""`python -m fx2ttnn`."""

from fx2ttnn.cli import main

main()
