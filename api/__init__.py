"""The HTTP door: it checks what comes in, commits it in one transaction and answers; the work is done elsewhere."""
