"""Doors for clients of other gateways: the same keys, limits and internals behind other words. docs/migration.md."""
