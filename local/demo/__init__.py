"""`./zh demo`: one run of everything on this machine, with a worker killed on the way, and a table that must hold."""
