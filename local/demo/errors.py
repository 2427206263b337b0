"""Why a demo could not go on."""


class DemoStopped(Exception):
    """The demo ends here; the text says what did not happen."""
