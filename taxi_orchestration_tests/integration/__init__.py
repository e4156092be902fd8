"""Tests of the parts together: real PostgreSQL, real HTTP, real dbt."""
