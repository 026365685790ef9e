"""Settings: one line for a mistake, with file and setting; no secret in the file, none in an error."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from pipeline import settings, settings_yaml
from pipeline.errors import SettingsError
from pipeline.settings import DEFAULTS, Embedded, Kafka, Programs, Route, Settings, load, load_offline
from pipeline.settings_partners import (
    MedmijSettings,
    NjsamsSettings,
    OAuthSettings,
    RocheSettings,
    RoquaResponsesSettings,
    RoquaSettings,
)
from pipeline.settings_sections import Secret

ROOT = Path(__file__).parents[1]


def written(folder: Path, **changes: object) -> Path:
    tree = yaml.safe_load(DEFAULTS.read_text())
    for name, value in changes.items():
        place = tree
        *parents, last = name.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_the_built_in_and_the_example_settings_are_whole() -> None:
    assert sorted(load(DEFAULTS).routes) == ["roche-patients"]
    every = ["medmij-appointments", "njsams-clients", "roche-patients", "roqua-honos", "roqua-responses"]
    assert sorted(load_offline(DEFAULTS).routes) == every
    assert sorted(load(ROOT / "deploy" / "settings.example.yaml").routes) == every


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"site__zone": "Europe/Amsterdm"}, "site.zone: not an IANA time zone, as Europe/Amsterdam"),
        ({"site__colour": "red"}, "site.colour: no such setting"),
        ({"site__charset": "EBCDIC-9"}, "site.charset: not a character set that Python knows, as UTF-8 or ISO-8859-15"),
        ({"keys__patient_hash": {}}, "keys.patient_hash: give either env or file"),
        (
            {"routes__roche-patients__partner": "rosch"},
            "routes.roche-patients.partner: no such partner below partners; there is roche",
        ),
        (
            {"routes__roche-patients__start": "yesterday"},
            "routes.roche-patients.start: earliest, latest, committed, or a time as 2026-01-31T00:00:00+01:00",
        ),
        (
            {"routes__roche-patients__start": "2026-01-31T00:00:00"},
            "routes.roche-patients.start: the time has no offset, as +01:00",
        ),
        *(
            (
                {"partners__roche__base_url": url},
                f"partners.roche.base_url: {said}",
            )
            for url, said in (
                ("http://roche.example/api", "must be https:// and a host name, as https://HOST/partners/fhir/stu3/api"),
                ("roche.example/api", "must be https:// and a host name, as https://HOST/partners/fhir/stu3/api"),
                ("https://roche.example/a pi", "must be https:// and a host name, as https://HOST/partners/fhir/stu3/api"),
                ("https://roche.example:x/api", "is no URL: https://HOST/partners/fhir/stu3/api"),
                ("https://user:secret@roche.example/api", "may have no query, fragment, user name or password"),
            )
        ),
        ({"partners__roche__client_id": 1234567890}, "partners.roche.client_id: must be text: put it in quotes"),
        ({"bus": {"kind": "kafak"}}, "bus: kind must be one of 'embedded', 'kafka'"),
        ({"bus": {"path": "x"}}, "bus: kind is missing"),
        ({"site": "Ziekenhuis"}, "site: must be a section (name: value)"),
        ({"partners__roche__tls": {"certificate": "a.pem"}}, "partners.roche.tls: certificate and key go together"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_setting(tmp_path: Path, changes: dict[str, object], line: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(SettingsError) as mistake:
        load(path)
    assert str(mistake.value) == f"{path}: {line}"


def test_of_several_mistakes_the_first_is_told_and_the_others_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, site__zone="Europe/Amsterdm", site__colour="red", partners__roche__client_id=1)
    with pytest.raises(SettingsError) as mistake:
        load(path)
    assert str(mistake.value) == (
        f"{path}: site.zone: not an IANA time zone, as Europe/Amsterdam (and 2 more: site.colour, partners.roche.client_id)"
    )


def test_of_very_many_mistakes_only_some_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, **{f"site__colour{number}": "red" for number in range(9)})
    with pytest.raises(SettingsError) as mistake:
        load(path)
    assert str(mistake.value).endswith("(and 8 more: site.colour1, site.colour2, site.colour3, site.colour4, site.colour5, …)")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"site:\n  name: [canary\n", ":3: is not YAML: did not find expected ',' or ']'"),
        (b"site:\n\tname: canary\n", ":2: is not YAML: found character that cannot start any token"),
        (b"secret: *canary\n", ":1: is not YAML: found undefined alias"),
        (b"site:\n  name: !canary x\n", ":2: is not YAML: could not determine a constructor for the tag"),
        (b"site: a\n--- canary\n", ":2: is not YAML: but found another document"),
        (b"site:\n  name: caf\xe9\n", ":2: is not UTF-8"),
        (b"site: \x00\n", ": is not YAML: it holds a control character"),
        (b"", ": is no settings file: it is empty; deploy/settings.example.yaml shows one"),
        (b"# canary\n", ": is no settings file: it is empty; deploy/settings.example.yaml shows one"),
        (b"canary", ": is no settings file: it holds no settings by name (name: value); deploy/settings.example.yaml shows one"),
        (
            b"- canary",
            ": is no settings file: it holds no settings by name (name: value); deploy/settings.example.yaml shows one",
        ),
        (b"site:\n  name: a\n  zone: b\n  name: canary\n", ":4: name stands twice, first on line 2"),
        (b"routes:\n  a: [{x: 1, x: canary}]\n", ":2: x stands twice, first on line 2"),
        (b"a: &canary\n  b: *canary\n", ":1: an anchor holds itself"),
        (b"? [canary]\n: 1\n", ":1: a setting's name must be a plain text"),
        (b"a:\n  b: 2026-13-45\n", ":2: looks like a date or a number and is none: put it in quotes, or mend it"),
    ],
)
def test_a_file_that_is_no_settings_says_why_and_on_which_line_and_repeats_nothing(
    tmp_path: Path, text: bytes, line: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(text)
    with pytest.raises(SettingsError) as mistake:
        load(path)
    assert str(mistake.value) == f"{path}{line}"
    assert "canary" not in str(mistake.value)


def test_a_part_that_is_used_twice_by_an_anchor_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("a: &x {b: 1}\nc: *x\nd: {<<: *x, b: 2}\n")
    assert settings_yaml.read(path) == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 2}}


def test_a_start_needs_no_quotes(tmp_path: Path) -> None:
    path = written(tmp_path, **{"routes__roche-patients__start": datetime(2026, 1, 31, tzinfo=timezone(timedelta(hours=1)))})
    assert load(path).routes["roche-patients"].start == "2026-01-31T00:00:00+01:00"


def roche_of(loaded: Settings) -> RocheSettings:
    roche = loaded.partners["roche"]
    assert isinstance(roche, RocheSettings)
    return roche


def test_a_slash_at_the_end_of_base_url_is_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, partners__roche__base_url="https://roche.example/api/")
    assert roche_of(load(path)).base_url == "https://roche.example/api"


def test_relative_paths_count_from_the_settings_file(tmp_path: Path) -> None:
    loaded = load(written(tmp_path))
    assert loaded.ledger.url == f"sqlite:///{tmp_path}/emr-pipeline-data/ledger.sqlite"
    assert roche_of(loaded).tls.ca == tmp_path / "emr-pipeline-data/sandbox/ca.pem"


def test_a_secret_written_into_the_settings_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = written(tmp_path, partners__roche__client_secret="canary-secret")
    with pytest.raises(SettingsError) as mistake:
        load(path)
    assert str(mistake.value) == (
        f"{path}: partners.roche.client_secret: write {{env: NAME}} or {{file: PATH}}, never the secret itself"
    )


def test_a_secret_that_is_not_there_names_the_place_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROCHE_SECRET", raising=False)
    with pytest.raises(SettingsError, match="environment variable ROCHE_SECRET is not set"):
        Secret(env="ROCHE_SECRET").read("partners.roche.client_secret")
    with pytest.raises(SettingsError, match="cannot be read"):
        Secret(file=tmp_path / "nothing").read("partners.roche.client_secret")


def test_the_settings_that_count_are_named_then_the_environments_then_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(settings.ENVIRONMENT, raising=False)
    assert settings.find(None) == DEFAULTS
    (tmp_path / settings.LOCAL).touch()
    assert settings.find(None) == Path(settings.LOCAL)
    monkeypatch.setenv(settings.ENVIRONMENT, "elsewhere.yaml")
    assert settings.find(None) == Path("elsewhere.yaml")
    assert settings.find(Path("named.yaml")) == Path("named.yaml")


def names(section: type[BaseModel]) -> set[str]:
    """Setting names of a section and of those below it."""
    found = {field.alias or name for name, field in section.model_fields.items()}
    for field in section.model_fields.values():
        below = [
            one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        found = found.union(*(names(one) for one in below))
    return found


def test_the_example_settings_name_every_setting() -> None:
    example = (ROOT / "deploy" / "settings.example.yaml").read_text()
    every = names(Settings).union(
        *(names(one) for one in (Embedded, Kafka, OAuthSettings, Programs, Route)),
        *(names(one) for one in (RocheSettings, NjsamsSettings, RoquaSettings, RoquaResponsesSettings, MedmijSettings)),
    )
    assert sorted(name for name in every if not re.search(rf"\b{name}:", example)) == []


BASIC: dict[str, object] = {"client_id": "us", "client_secret": {"env": "X"}}
SIGNED: dict[str, object] = {
    "client_id": "us",
    "client_auth": "private_key_jwt",
    "private_key": {"file": "k.pem", "key_id": "1"},
}


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"client_id": "us"}, "client_auth private_key_jwt goes with private_key, the others with client_secret"),
        (BASIC | {"client_auth": "private_key_jwt"}, "client_auth private_key_jwt goes with private_key"),
        (SIGNED | {"client_secret": {"env": "X"}}, "client_auth private_key_jwt goes with private_key"),
        (BASIC | {"grant": "authorization_code"}, "the authorization_code grant needs refresh_file"),
        (BASIC | {"discovery": False}, "without discovery token_url must be set"),
        (BASIC | {"token_url": "http://auth.example/token"}, "must be https:// and a host name"),
        (BASIC | {"token_url": "https://us:canary@auth.example/token"}, "must be https:// and a host name"),
    ],
)
def test_an_oauth_block_that_cannot_work_says_why(block: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as mistake:
        OAuthSettings.model_validate(block)
    assert said in str(mistake.value)
    assert "canary" not in str(mistake.value)


def test_an_oauth_block_with_a_secret_or_with_a_key_is_whole() -> None:
    assert OAuthSettings.model_validate(BASIC).client_auth == "client_secret_basic"
    assert OAuthSettings.model_validate(SIGNED).private_key is not None


TOKEN: dict[str, object] = {"consumer_key": "us", "consumer_secret": {"env": "X"}}
JWT: dict[str, object] = {"consumer_key": "us", "file": "k.pem", "issuer": "us"}
AT_ROQUA = "https://demo.rom.example"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token": TOKEN | {"consumer_key": "a:b"}}, "a name of printable characters without a colon"),
        ({"token": {"consumer_key": "us", "consumer_secret": "canary"}}, "write {env: NAME} or {file: PATH}"),
        ({"base_url": "http://demo.rom.example"}, "must be https://"),
        ({"author": "OBX-16"}, "is the path of an id before its name"),
        ({"author": "OBX-16.2"}, "is the path of an id before its name"),
        ({"professional_system": "AGB"}, "is a URI"),
        ({"unknown_answer": "canary"}, "unknown_answer"),
    ],
)
def test_a_block_of_roqua_that_cannot_work_says_why(changes: dict[str, object], said: str) -> None:
    block: dict[str, object] = {"kind": "roqua", "base_url": AT_ROQUA, "token": TOKEN, "professional_system": "urn:oid:1.2.3"}
    assert RoquaSettings.model_validate(block).put.read == 30
    with pytest.raises(ValidationError) as mistake:
        RoquaSettings.model_validate(block | changes)
    assert said in str(mistake.value)
    assert "canary" not in str(mistake.value)


@pytest.mark.parametrize("known_by", [{}, {"token": TOKEN, "jwt": JWT}])
def test_roqua_knows_us_by_a_token_or_by_a_jwt(known_by: dict[str, object]) -> None:
    block: dict[str, object] = {"kind": "roqua-responses", "base_url": AT_ROQUA}
    assert RoquaResponsesSettings.model_validate(block | {"token": TOKEN}).jwt is None
    assert RoquaResponsesSettings.model_validate(block | {"jwt": JWT}).token is None
    with pytest.raises(ValidationError, match="give either token or jwt"):
        RoquaResponsesSettings.model_validate(block | known_by)


WATCH: dict[str, object] = {"partner": "roche", "into": "roqua.completions", "from": "all", "dossiers": ["2075"]}


@pytest.mark.parametrize(
    ("watch", "said"),
    [
        (WATCH | {"source": "his.adt"}, "watches.w: give either dossiers or source"),
        ({name: one for name, one in WATCH.items() if name != "dossiers"}, "watches.w: give either dossiers or source"),
        ({name: one for name, one in WATCH.items() if name != "from"}, "watches.w.from: this setting is missing"),
        (WATCH | {"from": "yesterday"}, "watches.w.from: all, now, or a time as 2026-01-31T00:00:00+01:00"),
        (WATCH | {"from": "2026-01-31T00:00:00"}, "watches.w.from: the time has no offset, as +01:00"),
        (WATCH | {"partner": "x"}, "watches.w.partner: no such partner below partners; there is roche"),
        (WATCH | {"into": "his.adt"}, "watches.w.into: this topic has something else: name one of its own"),
        (WATCH | {"into": "emr.results"}, "watches.w.into: this topic has something else: name one of its own"),
        (WATCH | {"every": 0}, "watches.w.every: Input should be greater than 0"),
    ],
)
def test_a_watch_that_cannot_work_says_why(tmp_path: Path, watch: dict[str, object], said: str) -> None:
    path = written(tmp_path, watches={"w": watch})
    with pytest.raises(SettingsError) as mistake:
        load(path)
    assert str(mistake.value) == f"{path}: {said}"


def test_a_watch_may_not_be_called_as_a_route_is_nor_share_its_topic_with_another(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a route has this name already"):
        load(written(tmp_path, watches={"roche-patients": WATCH}))
    with pytest.raises(SettingsError, match="into: this topic has something else"):
        load(written(tmp_path, watches={"v": WATCH, "w": WATCH}))
    assert load(written(tmp_path, watches={"w": WATCH})).watches["w"].begin == "all"
