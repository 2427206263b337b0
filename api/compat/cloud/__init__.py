"""The Cloud API's door, `/compat/cloud`: Meta's send call, its replies and its errors."""
