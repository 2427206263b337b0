"""Both sides of a Noise XX handshake end with the same keys."""

import pytest
from cryptography.exceptions import InvalidTag

from local.fake_whatsapp.protocol import curve
from local.fake_whatsapp.protocol.noise import Cipher, Handshake

PROLOGUE = b"WA\x06\x03"


def shake(*, payload: bytes, tampered: bool = False) -> tuple[tuple[Cipher, Cipher], tuple[Cipher, Cipher], bytes]:
    """The ciphers of the client and of the server, and the payload as the server read it."""
    client, server = Handshake(PROLOGUE), Handshake(PROLOGUE)
    client_static, client_ephemeral = curve.generate(), curve.generate()
    server_static, server_ephemeral = curve.generate(), curve.generate()

    for side in (client, server):
        side.authenticate(client_ephemeral.public)
        side.authenticate(server_ephemeral.public)
    server.mix(server_ephemeral.agree(client_ephemeral.public))
    client.mix(client_ephemeral.agree(server_ephemeral.public))
    sealed_static = server.encrypt(server_static.public)
    their_static = client.decrypt(sealed_static)
    server.mix(server_static.agree(client_ephemeral.public))
    client.mix(client_ephemeral.agree(their_static))

    sealed_client = client.encrypt(client_static.public)
    client.mix(client_static.agree(server_ephemeral.public))
    sealed_payload = client.encrypt(payload)
    server.mix(server_ephemeral.agree(server.decrypt(sealed_client)))
    read = server.decrypt(sealed_payload[:-1] + b"\0" if tampered else sealed_payload)
    return client.finish(), server.finish(), read


def test_both_sides_read_each_other_for_many_frames() -> None:
    (client_out, client_in), (server_in, server_out), payload = shake(payload=b"login")

    assert payload == b"login"
    for turn in range(50):
        assert server_in.decrypt(client_out.encrypt(b"to server %d" % turn)) == b"to server %d" % turn
        assert client_in.decrypt(server_out.encrypt(b"to client %d" % turn)) == b"to client %d" % turn


def test_a_tampered_payload_is_refused() -> None:
    with pytest.raises(InvalidTag):
        shake(payload=b"login", tampered=True)


def test_a_lost_frame_breaks_the_stream() -> None:
    (client_out, _), (server_in, _), _ = shake(payload=b"")
    client_out.encrypt(b"lost")

    with pytest.raises(InvalidTag):
        server_in.decrypt(client_out.encrypt(b"next"))
