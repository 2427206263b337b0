"""What says whether an Amazon database is the one it claims to be is in the code, for every part that reaches one."""

import re
import ssl
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

ROOT = Path(__file__).parents[3]
PEM = files("shared.db") / "certificates" / "rds.pem"


def test_each_certificate_is_a_root_that_stays_valid_and_has_the_name_above_it() -> None:
    text = PEM.read_text(encoding="utf-8")
    named = re.findall(
        r"^# ([^\n]*), until (\S+), SHA-256 (\w+)\n(-----BEGIN[^#]*END CERTIFICATE-----)", text, re.MULTILINE
    )

    assert len(named) == text.count("BEGIN CERTIFICATE")
    for name, until, digest, pem in named:
        found = x509.load_pem_x509_certificate(pem.encode())
        assert found.subject == found.issuer
        found.verify_directly_issued_by(found)
        assert name in found.subject.rfc4514_string()
        assert found.fingerprint(SHA256()).hex() == digest
        assert f"{found.not_valid_after_utc:%Y-%m-%d}" == until
        assert found.not_valid_after_utc > datetime.now(UTC) + timedelta(days=365)
    names = {name for name, *_ in named}
    assert {
        "Amazon RDS sa-east-1 Root CA RSA2048 G1",
        "Amazon RDS us-east-1 Root CA RSA2048 G1",
        "Amazon Root CA 1",
    } <= names


def test_python_takes_the_file_as_it_is() -> None:
    context = ssl.create_default_context(cafile=str(PEM))

    assert len(context.get_ca_certs()) == PEM.read_text(encoding="utf-8").count("BEGIN CERTIFICATE")


def test_terraform_names_the_file_where_zips_and_image_have_it() -> None:
    stack = (ROOT / "infra/terraform/modules/stack/main.tf").read_text(encoding="utf-8")
    where = re.findall(r"sslrootcert=([^\s\"&]+)", stack)

    # Lambda's folder of code, and the image's (infra/docker/Dockerfile).
    assert sorted(where) == [f"/{folder}/shared/db/certificates/rds.pem" for folder in ("opt/zaphub/app", "var/task")]
    assert "WORKDIR /opt/zaphub/app" in (ROOT / "infra/docker/Dockerfile").read_text(encoding="utf-8")
