"""Tests of definitions, jobs, ranges and checks on a real Dagster instance."""
