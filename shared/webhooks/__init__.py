"""Webhooks: signing, the HTTP client, endpoints, fan-out and delivery."""
