"""Shared helpers of the tests: servers, hosts, clusters and synthetic months. It contains no tests."""
