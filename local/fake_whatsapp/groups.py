"""Groups."""

from local.fake_whatsapp.signal.fields import MalformedMessage


def open_message(exchange, device, message):
    raise MalformedMessage("no groups yet")
