"""The calls, one module per subject; each checks who asks and hands on."""
