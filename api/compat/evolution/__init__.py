"""Evolution API's door, `/compat/evolution`: its calls, replies and errors, as its 2.3 line has them."""
