"""Running ZapHub on this machine: the command line, the embedded servers and the supervisor."""
