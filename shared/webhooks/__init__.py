"""Webhooks: signing, the target rule, the safe HTTP client, endpoints, fan-out and delivery."""
