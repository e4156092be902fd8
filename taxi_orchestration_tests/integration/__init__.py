"""Tests of several components together, with real PostgreSQL, HTTP and dbt."""
