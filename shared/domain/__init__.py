"""Pure rules and types: the standard library and pydantic only, no I/O, no clock, no randomness of its own."""
