"""What a compile covered: in the terminal, as markdown and as JSON."""
