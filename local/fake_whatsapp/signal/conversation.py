"""All sessions of one phone with one linked device: the current one, and older ones that may still speak."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from local.fake_whatsapp.protocol.curve import KeyPair
from local.fake_whatsapp.signal import agreement, ratchet
from local.fake_whatsapp.signal.agreement import Bundle
from local.fake_whatsapp.signal.messages import Greeting, RatchetMessage
from local.fake_whatsapp.signal.ratchet import Chain, DuplicateMessage, Hello, Ratchet, Receiving, WrongSession

KEPT_SESSIONS = 10


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted message as the `enc` node carries it; a greeting is type `pkmsg`, else `msg`."""

    type: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Keyring:
    """One phone's private keys, as far as a greeting may ask for them."""

    registration_id: int
    identity: KeyPair
    signed: KeyPair
    one_time: Callable[[int], KeyPair]


@dataclass(frozen=True, slots=True)
class Conversation:
    """The newest session comes first: it is the one that we send with."""

    sessions: tuple[Ratchet, ...] = ()

    def start(self, keyring: Keyring, bundle: Bundle) -> Conversation:
        """A new session, towards a device whose older ones cannot be used for sending."""
        return self._with(agreement.initiate(keyring.identity, bundle))

    def seal(self, keyring: Keyring, plaintext: bytes) -> tuple[Conversation, Sealed]:
        """Encrypt with the current session; LookupError when none was started."""
        if not self.sessions:
            raise LookupError("no session was started with this device")
        current, raw = ratchet.seal(self.sessions[0], plaintext)
        following = Conversation((current, *self.sessions[1:]))
        if current.hello is None:
            return following, Sealed("msg", raw)
        greeting = Greeting(
            one_time_id=current.hello.one_time_id,
            signed_id=current.hello.signed_id,
            base_key=current.base_key,
            identity=current.our_identity,
            registration_id=keyring.registration_id,
            message=raw,
        )
        return following, Sealed("pkmsg", greeting.dump())

    def unseal(self, keyring: Keyring, sealed: Sealed) -> tuple[Conversation, bytes]:
        """Decrypt with whichever session fits, and make it the current one.

        Raises DuplicateMessage for a message that was opened long before, WrongSession when no session fits,
        MalformedMessage when it is not a Signal message.
        """
        if sealed.type != "pkmsg":
            return self._unseal_with_any(RatchetMessage.parse(sealed.ciphertext))
        greeting = Greeting.parse(sealed.ciphertext)
        message = RatchetMessage.parse(greeting.message)
        if any(session.base_key == greeting.base_key for session in self.sessions):
            return self._unseal_with_any(message)
        one_time = None if greeting.one_time_id is None else keyring.one_time(greeting.one_time_id)
        session = agreement.respond(greeting, identity=keyring.identity, signed=keyring.signed, one_time=one_time)
        session, plaintext = ratchet.unseal(session, message)
        return self._with(session), plaintext

    def _unseal_with_any(self, message: RatchetMessage) -> tuple[Conversation, bytes]:
        for session in self.sessions:
            try:
                following, plaintext = ratchet.unseal(session, message)
            except DuplicateMessage:
                raise
            except ValueError:
                # Another session's message fails here in several ways; the last line reports that none fits.
                continue
            return self._with(following), plaintext
        raise WrongSession("no session fits this message")

    def _with(self, session: Ratchet) -> Conversation:
        others = tuple(other for other in self.sessions if other.base_key != session.base_key)
        return Conversation((session, *others)[:KEPT_SESSIONS])


def dump(conversation: Conversation) -> str:
    """As text for the disk; `load` reads it back."""
    return json.dumps([_dump_session(session) for session in conversation.sessions], separators=(",", ":"))


def load(text: str) -> Conversation:
    return Conversation(tuple(_load_session(record) for record in json.loads(text)))


def _dump_session(session: Ratchet) -> dict[str, object]:
    return {
        "our_identity": session.our_identity.hex(),
        "their_identity": session.their_identity.hex(),
        "base_key": session.base_key.hex(),
        "root": session.root.hex(),
        "our_key": [session.our_key.private.hex(), session.our_key.public.hex()],
        "sending": [session.sending.key.hex(), session.sending.counter],
        "previous_counter": session.previous_counter,
        "receiving": [[r.their_key.hex(), r.chain.key.hex(), r.chain.counter] for r in session.receiving],
        "skipped": _dump_seeds(session.skipped),
        "used": _dump_seeds(session.used),
        "hello": session.hello and [session.hello.one_time_id, session.hello.signed_id],
    }


def _load_session(record: dict[str, object]) -> Ratchet:
    # The shapes are those that `_dump_session` wrote; a wrong one fails loudly here.
    match record:
        case {
            "our_identity": str(our_identity),
            "their_identity": str(their_identity),
            "base_key": str(base_key),
            "root": str(root),
            "our_key": [str(private), str(public)],
            "sending": [str(sending_key), int(counter)],
            "previous_counter": int(previous_counter),
            "receiving": list(receiving),
            "skipped": list(skipped),
            "used": list(used),
            "hello": hello,
        }:
            return Ratchet(
                our_identity=bytes.fromhex(our_identity),
                their_identity=bytes.fromhex(their_identity),
                base_key=bytes.fromhex(base_key),
                root=bytes.fromhex(root),
                our_key=KeyPair(bytes.fromhex(private), bytes.fromhex(public)),
                sending=Chain(bytes.fromhex(sending_key), counter),
                previous_counter=previous_counter,
                receiving=tuple(
                    Receiving(bytes.fromhex(their_key), Chain(bytes.fromhex(key), at))
                    for their_key, key, at in receiving
                ),
                skipped=_load_seeds(skipped),
                used=_load_seeds(used),
                hello=Hello(hello[0], hello[1]) if isinstance(hello, list) else None,
            )
    raise ValueError("not a stored session")


def _dump_seeds(seeds: Mapping[tuple[bytes, int], bytes]) -> list[list[str | int]]:
    return [[key.hex(), counter, seed.hex()] for (key, counter), seed in seeds.items()]


def _load_seeds(records: list[list[str]]) -> dict[tuple[bytes, int], bytes]:
    return {(bytes.fromhex(key), int(counter)): bytes.fromhex(seed) for key, counter, seed in records}
