"""A WhatsApp Web server on loopback, for tests and the demo: never part of a production process."""
