"""Fault tests of the guarantees in docs/reliability.md; each test is a line of docs/reliability-tests.md."""
