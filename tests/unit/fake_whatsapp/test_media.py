"""Media files open with their key, and only with it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.fake_whatsapp.media import KEY_PURPOSES, MediaFiles, UnreadableMedia


@given(st.sampled_from(sorted(KEY_PURPOSES)), st.binary(max_size=500))
def test_what_was_encrypted_is_read_back(tmp_path_factory: pytest.TempPathFactory, kind: str, plaintext: bytes) -> None:
    files = MediaFiles(tmp_path_factory.mktemp("media"))
    stored = files.encrypt(kind, plaintext)

    assert files.decrypt(kind, direct_path=stored.direct_path, media_key=stored.media_key) == plaintext


def test_another_key_does_not_open_a_file(tmp_path: Path) -> None:
    files = MediaFiles(tmp_path)
    stored = files.encrypt("image", b"picture")

    with pytest.raises(UnreadableMedia):
        files.decrypt("image", direct_path=stored.direct_path, media_key=bytes(32))


@pytest.mark.parametrize("direct_path", ["/v/0123?ccb=1", "/v/../secret", "", "/v/"])
def test_a_path_leads_to_uploaded_files_only(tmp_path: Path, direct_path: str) -> None:
    (tmp_path / "secret").write_text("x")
    files = MediaFiles(tmp_path / "media")

    assert files.path(direct_path) is None
    with pytest.raises(UnreadableMedia):
        files.decrypt("image", direct_path=direct_path, media_key=bytes(32))
