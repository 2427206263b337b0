"""Holds the WhatsApp sockets: a supervisor and its children, the only home of neonize."""
