"""The promises of docs/reliability.md, attacked: every test here is a row of its table."""
