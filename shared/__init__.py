"""The library that every process stands on; it never imports a process."""
