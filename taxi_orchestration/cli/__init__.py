"""`taxi`: the commands, what they show in a terminal, and the backfill that they run.

What does not belong here: whatever the UI can do as well, which is in the packages below.
"""
