"""Tests of taxi_orchestration.report."""
