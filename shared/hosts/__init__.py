"""How the API and the functions reach the host that owns a session."""
