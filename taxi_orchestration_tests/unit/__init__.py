"""Tests of one module at a time. Only test_contract_and_dbt.py starts the database server."""
