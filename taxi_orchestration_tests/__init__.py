"""Tests of the taxi pipeline."""
