"""Points the neonize library of this process at a fake WhatsApp server. For tests and the demo on this machine only.

The wheel stays untouched. The order of the calls matters:

1. `prepare(url)` before `neonize` is imported: Go copies its environment, SSL_CERT_FILE included, when it loads;
2. `import neonize`;
3. `patch(connector)` before the first `connect`: it puts the server's root key in the place of WhatsApp's;
4. `connect(ProxySettings(connector.proxy_url))`: the proxy takes every host to the server.

`install(url)` does 1 to 3. From then on this process can reach no WhatsApp but that one.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import sys
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

from local.fake_whatsapp import go_environment
from local.fake_whatsapp.go_environment import NoSuchPlace
from local.fake_whatsapp.protocol.tokens import library_segments

# WhatsApp's root key, as whatsmeow carries it in the variable WACertPubKey.
WHATSAPP_ROOT_KEY = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")
TIMEOUT_S = 10.0
CA_VARIABLE = "SSL_CERT_FILE"


class NotConnectable(RuntimeError):
    """The process cannot be pointed at the fake server; calling again does not help."""


@dataclass(frozen=True, slots=True)
class Connector:
    """What `GET /connector` answered."""

    proxy_url: str
    ca_pem: str
    root_public_key: bytes


def install(connector_url: str) -> str:
    """Point neonize at the server whose control API is at that URL, and return the proxy URL for `connect`.

    Call it before anything imports neonize. Raises NotConnectable when neonize is loaded already, when the URL or
    the proxy is not on loopback, or when this build of the library cannot be patched; OSError when the server does
    not answer, and then a later call may succeed.
    """
    connector = prepare(connector_url)
    import neonize  # noqa: F401, PLC0415  # it must load between the two steps

    patch(connector)
    return connector.proxy_url


def prepare(connector_url: str) -> Connector:
    """Step 1: ask the server who it is, and let Go trust its certificate authority and no other."""
    if any(name == "neonize" or name.startswith("neonize.") for name in sys.modules):
        raise NotConnectable("neonize is loaded already: prepare must come before its import")
    if sys.platform != "linux":
        raise NotConnectable("the library can be pointed at loopback on Linux only")
    _require_loopback(connector_url)
    # A proxy from the environment has no business between two processes of one machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(connector_url.rstrip("/") + "/connector", timeout=TIMEOUT_S) as answer:
        found = json.load(answer)
    connector = Connector(found["proxy_url"], found["ca_pem"], bytes.fromhex(found["root_public_key"]))
    _require_loopback(connector.proxy_url)

    try:
        go_environment.show(CA_VARIABLE, _keep(connector.ca_pem))
    except NoSuchPlace as error:
        raise NotConnectable(str(error)) from error
    return connector


def patch(connector: Connector) -> None:
    """Step 3: overwrite the root key in the loaded library."""
    places = [
        segment.start + offset
        for segment in library_segments()
        if segment.is_writable
        for offset in _occurrences(segment.read(), WHATSAPP_ROOT_KEY)
    ]
    if len(places) != 1:
        raise NotConnectable(f"the root key is in {len(places)} places of the loaded library, not in one")
    ctypes.memmove(places[0], connector.root_public_key, len(WHATSAPP_ROOT_KEY))


def _keep(ca_pem: str) -> str:
    """Hold the certificate in memory for as long as this process lives, where Go can open it as a file."""
    descriptor = os.memfd_create("fake-whatsapp-ca")
    os.write(descriptor, ca_pem.encode())
    return f"/proc/self/fd/{descriptor}"


def _occurrences(blob: bytes, needle: bytes) -> list[int]:
    found = []
    at = blob.find(needle)
    while at >= 0:
        found.append(at)
        at = blob.find(needle, at + 1)
    return found


def _require_loopback(url: str) -> None:
    host = urlsplit(url).hostname or ""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise NotConnectable(f"{host or url} is not on loopback: a real server is never reached this way")
