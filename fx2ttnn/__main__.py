"""`python -m fx2ttnn`."""

from fx2ttnn.cli import command

command()
