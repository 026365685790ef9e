"""Messages for these tests, and where the public samples are (EMR_SHARED overrides). No test in here."""

import os
from pathlib import Path

import pytest

from pipeline.hl7.er7 import Message, parse

SHARED = Path(os.environ.get("EMR_SHARED", Path(__file__).parents[2] / "../shared")).resolve()
SAMPLES = SHARED / "hl7-samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the public HL7 samples are not here (EMR_SHARED)")

ZONE = "Europe/Amsterdam"
HEADER = "MSH|^~\\&|HIS|AMC|PIPE|ROCHE|20260301120000||ADT^A01^ADT_A01|MSG1|P|2.5"


def message(*segments: str, header: str = HEADER, charset: str = "utf-8") -> Message:
    """A message of a header and these segments, in UTF-8."""
    return parse("\r".join((header, *segments, "")).encode(), charset=charset)


def files() -> list[Path]:
    """Every public sample."""
    return sorted(path for path in SAMPLES.glob("*/*") if path.is_file())
