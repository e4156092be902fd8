"""Benchmarks: each measures both sides in one run, on synthetic months, and gives the ratio. `make bench` runs them."""
