"""What is true of a month."""
