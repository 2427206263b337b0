"""Webhook bodies in the words of other gateways: one pure function a format, from an event to bytes."""
