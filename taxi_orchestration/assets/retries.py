"""How often a step is tried again by itself."""

from dagster import Backoff, Jitter, RetryPolicy

# What PostgreSQL could not take now it may take in a minute. Downloads are retried by the client alone.
RETRIES = RetryPolicy(max_retries=3, delay=5, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)
