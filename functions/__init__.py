"""One module per queue: its handler, its Taskiq task, its own broker, its Lambda entry; and the worker of them all."""
