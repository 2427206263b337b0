"""Postgres and Valkey from wheels, as children of the process that starts them."""
