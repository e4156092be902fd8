"""The promises of docs/reliability.md, attacked: every test here is a line of docs/reliability-tests.md."""
