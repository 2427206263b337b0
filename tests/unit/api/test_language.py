"""`Accept-Language`: the spoken language that weighs most."""

import pytest

from api.language import best_of


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("en", "en"),
        ("pt", "pt"),
        ("pt-BR", "pt"),
        ("PT-pt", "pt"),
        ("pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7", "pt"),
        ("en-US,en;q=0.9,pt;q=0.8", "en"),
        ("en;q=0.5, pt;q=0.6", "pt"),
        ("en;q=0.6, pt;q=0.5", "en"),
        ("fr, de;q=0.9", "en"),
        ("fr, pt;q=0.1", "pt"),
        ("*", "en"),
        ("*;q=0.1, pt;q=0.2", "pt"),
        ("pt;q=0", "en"),
        ("pt;q=0, en;q=0", "en"),
        ("pt;q=x, en;q=0.1", "en"),
        ("pt;q=2", "en"),
        ("pt;q=nan", "en"),
        ("pt ; q = 0.9 , en;q=0.8", "pt"),
        ("portuguese", "en"),
        (";;;,,,=", "en"),
        ("en;q=0.1," + "pt," * 5000, "pt"),
        ("x" * 100_000 + ",pt", "en"),
    ],
)
def test_the_language_that_weighs_most_is_spoken(header: str, language: str) -> None:
    assert best_of(header) == language
