"""Shared helpers of the tests: servers, hosts, clusters and synthetic months. No test is in here."""
