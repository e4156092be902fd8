"""Benchmarks on synthetic months. Each measures both sides in one run and gives the ratio. `make bench` runs them."""
