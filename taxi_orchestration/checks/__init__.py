"""What is true of a month, and of all of them: one file a concept, each a pure function that returns a Finding."""
