"""One linked device's connection to WhatsApp: the port, the real library behind it, and a simulated one."""
