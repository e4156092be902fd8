"""`taxi`: its commands, their terminal output, and the backfill in this process.

What does not belong here: whatever the UI does too, which is in the packages below.
"""
