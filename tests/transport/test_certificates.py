"""The one line that a start gives where our certificate cannot be used, or soon cannot."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pipeline.sandbox.certificates import Files
from pipeline.settings_sections import TlsFiles
from pipeline.transport.certificates import now, warning


def ours(files: Files) -> TlsFiles:
    return TlsFiles(ca=files.ca, certificate=files.client, key=files.client_key)


def end_of(file: Path) -> datetime:
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc


def test_a_certificate_that_works_and_none_at_all_need_no_warning(files: Files) -> None:
    assert warning(ours(files), now()) is None
    assert warning(TlsFiles(ca=files.ca), now()) is None


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (timedelta(days=30, minutes=1), None),
        (timedelta(days=29, minutes=1), "expires in 29 days"),
        (timedelta(days=1, minutes=1), "expires in 1 day ("),
        (timedelta(minutes=1), "expires within a day"),
        (timedelta(minutes=-1), "expired at"),
    ],
)
def test_a_certificate_that_ends_soon_is_one_line_with_its_file(files: Files, before: timedelta, said: str | None) -> None:
    line = warning(ours(files), end_of(files.client) - before)
    if said is None:
        assert line is None
    else:
        assert line is not None
        assert line.startswith(f"{files.client} {said}")
        assert "certificate" in line.rpartition(": ")[2]


@pytest.mark.parametrize(("kind", "said"), [("expired", "expired at"), ("not-yet-valid", "is not valid before")])
def test_one_that_is_not_valid_now_says_so(files: Files, kind: str, said: str) -> None:
    certificate, key = files.wrong(kind)
    assert said in str(warning(TlsFiles(ca=files.ca, certificate=certificate, key=key), now()))


def test_files_that_do_not_fit_or_are_not_there_say_so(files: Files, tmp_path: Path) -> None:
    assert "is not the key of" in str(warning(TlsFiles(ca=files.ca, certificate=files.client, key=files.server_key), now()))
    absent = tmp_path / "absent.pem"
    assert str(absent) in str(warning(TlsFiles(ca=files.ca, certificate=absent, key=files.client_key), now()))
    assert str(absent) in str(warning(TlsFiles(ca=absent), now()))
