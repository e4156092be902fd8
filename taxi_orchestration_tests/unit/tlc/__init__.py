"""Tests of taxi_orchestration.tlc."""
