"""ORU → HoNOS+ → response → Observations: every answer that a hospital sends is there again in what RoQua gives back, by both of its reads. So by REST.

Over real TLS against the stand-in, which reads documents by tables of its own.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import offline, wiring
from pipeline.model import Packed, Resource
from pipeline.sandbox import rom
from pipeline.sandbox.roqua.questionnaires import ITEM8_KEY, ITEM_KEYS
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from pipeline.settings import Settings, load
from pipeline.stages.plan import Plan
from tests.partners import roqua_responses_samples
from tests.partners.roqua_samples import ITEMS, SCORES, answered, oru

SETTINGS = """
site: {{name: test, zone: Europe/Amsterdam, overlay: demo}}
bus: {{kind: embedded, path: bus}}
ledger: {{url: "sqlite:///ledger.sqlite"}}
keys: {{patient_hash: {{env: NOTHING}}}}
partners:
  roqua:
    kind: roqua
    base_url: {url}
    tls: {{ca: {folder}/ca.pem}}
    token: {{consumer_key: {key}, consumer_secret: {{file: {folder}/client-secret}}}}
    professional_system: "urn:x:professionals"
  roqua-responses:
    kind: roqua-responses
    base_url: {url}
    tls: {{ca: {folder}/ca.pem}}
    token: {{consumer_key: {key}, consumer_secret: {{file: {folder}/client-secret}}}}
routes:
  roqua-honos: {{partner: roqua, source: his.oru, start: earliest}}
  roqua-responses: {{partner: roqua-responses, source: his.oru, start: earliest}}
"""
CAP = 2**20
DOSSIERS = count(7000)


class House:
    """A hospital with RoQua's stand-in: what it sends, and what it reads of a dossier."""

    def __init__(self, settings: Settings) -> None:
        self.plan, self.by_api = (wiring.plan_offline(settings, route) for route in ("roqua-honos", "roqua-responses"))
        self.reader, self.transport = wiring.reader_of(settings, "roqua"), wiring.transport_of(settings, "roqua", CAP)

    def send(self, message: bytes, plan: Plan | None = None) -> str:
        """The path that it was put to."""
        packed = offline.convert(message, plan or self.plan)
        assert isinstance(packed, Packed), packed
        (request,) = packed.requests
        assert self.transport.exchange(request).status in {200, 201}
        return request.path

    def read(self, resource: str, option: str, dossier: str) -> tuple[Resource, ...]:
        asked = self.reader.by_search(resource, {option: dossier})
        return self.reader.page(asked, self.transport.exchange(asked)).resources

    def by_fhir(self, dossier: str) -> Counter[tuple[str, Any]]:
        """Answers and scores, by the key of the question."""
        found = self.read("Observation", "subject", dossier)
        return Counter((one["code"]["text"].rpartition(" ")[2], value(one)) for one in found)

    def by_rest(self, dossier: str) -> Counter[tuple[str, Any]]:
        """The same of our own Observations, made of responses."""
        asked = self.reader.by_search("responses", {"dossier": dossier})
        responses = self.reader.page(asked, self.transport.exchange(asked)).resources
        turned = [one for response in responses for one in self.reader.observations(asked, response)[0]]
        return Counter((one["code"]["coding"][0]["code"], value(one)) for one in turned)


def value(observation: Resource) -> Any:  # noqa: ANN401 - a value
    quantity: dict[str, Any] = observation.get("valueQuantity", {})
    return quantity.get("value", observation.get("valueString"))


def sent(scores: dict[str, int], problem: str | None = None) -> Counter[tuple[str, Any]]:
    """Answers under the stand-in's own keys."""
    return Counter([*((ITEM_KEYS[item], score) for item, score in scores.items()), *([(ITEM8_KEY, problem)] if problem else [])])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("roqua")
    with RoquaSandbox(folder / "there") as roqua:
        (folder / "settings.yaml").write_text(
            SETTINGS.format(url=roqua.base_url, folder=roqua.folder, key=roqua.token_key), encoding="utf-8"
        )
        house = House(load(folder / "settings.yaml"))
        yield house
        house.transport.close()


ANSWERS = st.fixed_dictionaries({item: st.integers(0, 4) for item in ITEMS})


@settings(max_examples=15, deadline=None)
@given(ANSWERS)
def test_every_answer_comes_back_as_an_observation(house: House, scores: dict[str, int]) -> None:
    dossier = str(next(DOSSIERS))
    house.send(oru(answered(scores), dossier=dossier))
    went = sent(scores, "K")
    assert [went - house.by_fhir(dossier), went - house.by_rest(dossier)] == [Counter(), Counter()]


@pytest.mark.parametrize("item", ITEMS)
def test_a_change_of_one_answer_changes_that_one_alone(house: House, item: str) -> None:
    """So no two items go to one question, whatever is answered."""
    dossier, other = str(next(DOSSIERS)), (SCORES[item] + 1) % 5
    house.send(oru(dossier=dossier))
    before = house.by_rest(dossier)
    house.send(oru(answered({**SCORES, item: other}, status="C"), dossier=dossier, status="C", control="H-2"))
    keys = {ITEM_KEYS[one] for one in ITEMS}
    changed = {pair for pair in (house.by_rest(dossier) - before) if pair[0] in keys}
    assert changed == {(ITEM_KEYS[item], other)}


OQ45 = [f"v_{number}" for number in range(1, 47) if number != 17]


@settings(max_examples=10, deadline=None)
@given(st.fixed_dictionaries({key: st.integers(0, 4) for key in OQ45}))
def test_every_answer_by_the_rest_api_comes_back_as_an_observation(house: House, scores: dict[str, int]) -> None:
    dossier = str(next(DOSSIERS))
    answers = {f"OQ45_{key.removeprefix('v_')}": str(score) for key, score in scores.items()}
    house.send(roqua_responses_samples.oru(dossier=dossier, answers=answers), house.by_api)
    went = Counter(scores.items())
    assert [went - house.by_fhir(dossier), went - house.by_rest(dossier)] == [Counter(), Counter()]


def test_a_correction_meets_the_same_document_and_the_response_has_its_answers_alone(house: House) -> None:
    dossier, corrected = str(next(DOSSIERS)), {**SCORES, "1": 4, "Q": 0}
    first = house.send(oru(dossier=dossier))
    again = house.send(oru(answered(corrected, status="C"), dossier=dossier, status="C", control="H-2"))
    assert first == again
    assert len(house.read("responses", "dossier", dossier)) == 1
    assert sent(corrected, "K") - house.by_fhir(dossier) == Counter()
    assert house.by_fhir(dossier)["v_1", SCORES["1"]] == 0


def test_the_demos_questionnaires_come_back_whole(house: House) -> None:
    for sample in rom.messages():
        if sample.end == rom.DELIVERED:
            house.send(sample.bytes)
    for dossier, questionnaires in rom.kept().items():
        went: Counter[tuple[str, Any]] = Counter()
        for answers in questionnaires.values():
            went += sent(dict(answers), rom.OTHER_PROBLEM if answers["8"] else None)
        assert went - house.by_rest(dossier) == Counter()
