"""Postgres: the pool, the .sql files, the migrations and one repository per aggregate. The only home of asyncpg."""
