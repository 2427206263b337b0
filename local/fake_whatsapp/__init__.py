"""A WhatsApp Web server on loopback, for tests and the demo: never part of a production process.

Read `server` first: it puts everything together. `listener` takes connections in; `pairing` serves clients that are not
linked yet, `session` those that are, `control` the tests. A message from a client goes through `outgoing`, one to a
client through `mailbox` and `incoming`. `protocol` is WhatsApp's transport, `signal` its encryption. `connector` is the
part that runs in the client's process.

What it does not do: history sync, app state, presence, messages from groups, calls, and WhatsApp's own policy (bans,
rate limits). A phone links one device at a time: linking again takes the link from the device before.
"""
