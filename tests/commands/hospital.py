"""A small hospital in a folder: settings, a key, the partner's stand-in with its certificates."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.ledger.samples import KEY


def write(folder: Path, sandbox: RocheSandbox | None = None, **changed: Any) -> Path:  # noqa: ANN401 - sections of the settings
    """The settings' file; the sandbox's address and files are in it."""
    files = sandbox.folder if sandbox else folder / "sandbox"
    (folder / "hash.key").write_text(KEY)
    (folder / "hash.key").chmod(0o600)
    tree: dict[str, Any] = {
        "site": {"name": "test"},
        "bus": {"kind": "embedded", "path": "bus"},
        "ledger": {"url": "sqlite:///ledger.sqlite"},
        "keys": {"patient_hash": {"file": "hash.key"}},
        "partners": {
            "roche": {
                "kind": "roche",
                "base_url": sandbox.base_url if sandbox else "https://127.0.0.1:1/api",
                "org_id": "2.16.724.4.2",
                "client_id": "1234567890",
                "client_secret": {"file": str(files / "client-secret")},
                "tls": {"ca": str(files / "ca.pem"), "certificate": str(files / "client.pem"), "key": str(files / "client.key")},
            }
        },
        "routes": {"roche-patients": {"partner": "roche", "source": "his.adt", "start": "earliest"}},
    }
    path = folder / "emr-pipeline.yaml"
    path.write_text(yaml.safe_dump(tree | changed))
    return path
