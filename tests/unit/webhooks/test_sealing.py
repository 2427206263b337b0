"""Secrets at rest: what is sealed opens with the same key in the same place, and nowhere else."""

import pytest
from pydantic import SecretStr

from shared.domain.errors import Misconfigured
from shared.sealing import Sealer

KEY = SecretStr("a secret key of some length")


def test_what_was_sealed_opens_again_after_a_restart() -> None:
    sealed = Sealer(KEY).seal(b"whsec_x", context="row 1")

    assert Sealer(KEY).open(sealed, context="row 1") == b"whsec_x"
    assert sealed.startswith(b"zh1:")
    assert b"whsec" not in sealed


def test_the_same_secret_is_sealed_differently_every_time() -> None:
    sealer = Sealer(KEY)

    assert sealer.seal(b"x", context="row") != sealer.seal(b"x", context="row")


def test_another_key_another_row_or_a_changed_bit_does_not_open_and_says_which_setting_to_look_at() -> None:
    sealed = Sealer(KEY).seal(b"whsec_x", context="row 1")
    wrong = [
        (Sealer(SecretStr("another key of some length")), sealed, "row 1"),
        (Sealer(KEY), sealed, "row 2"),
        (Sealer(KEY), sealed[:-1] + bytes([sealed[-1] ^ 1]), "row 1"),
        (Sealer(KEY), b"", "row 1"),
        (Sealer(KEY), b"zh2:" + sealed[4:], "row 1"),
    ]

    for sealer, box, context in wrong:
        with pytest.raises(Misconfigured, match="ZAPHUB_SECRET_KEY"):
            sealer.open(box, context=context)
