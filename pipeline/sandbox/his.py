"""Two hospital systems that do not exist, a Spanish and a Dutch one (with German patients), as writers of HL7 v2.5 ADT messages.

Ten segments each, in the style of such systems: assigning authorities CIP and METEDA, two surnames, Dutch own and partner names, their
charsets and delimiters in MSH. Every person is made up from lists and a number. Shares nothing with our reader: it must not agree with it by construction.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Final

CR: Final = "\r"
_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
"""Check letter of a Spanish number: number modulo 23."""

_SPANISH: Final = (
    ("García", "López", "María José", "M"),
    ("Núñez", "Ibáñez", "Íñigo", "H"),
    ("Muñoz", "Peña", "Begoña", "M"),
    ("de la Fuente", "Martín", "Ángel", "H"),
    ("Fernández", "Güell", "Rocío", "M"),
    ("Sáenz de Santamaría", "Gómez", "Jesús", "H"),
)
"""First surname, second surname, given, sex as the system writes it (mujer, hombre)."""
_DUTCH: Final = (
    ("Vries", "de", "Berg", "van den", "Anna Maria", "A.M.", "V"),
    ("Jong", "de", "", "", "Jan Willem", "J.W.", "M"),
    ("Dijk", "van", "Bakker", "", "Sjoukje", "S.", "V"),
    ("IJzendoorn", "van", "", "", "Zoë", "Z.", "V"),
    ("Groot", "", "Laan", "van der", "Renée", "R.", "V"),
    ("Hof", "in 't", "", "", "Pieter", "P.", "M"),
)
"""Own name, its prefix, partner's name, its prefix, given, initials, sex (vrouw, man)."""
_GERMAN: Final = (("Müller-Lüdenscheidt", "Jürgen", "M"), ("Weiß", "Käthe", "F"), ("Großmann", "Sören", "M"))

_DIAGNOSES: Final = (
    ("E10.9", "Diabetes mellitus type 1", "I10"),
    ("E11.9", "Diabetes mellitus type 2", "I10"),
    ("250.00", "Diabetes mellitus, type II", "I9C"),
    ("46635009", "Diabetes mellitus type 1", "SCT"),
)
_OTHER: Final = (("I10", "Hypertension", "I10"), ("J45.0", "Asthma", "I10"))


@dataclass(frozen=True, slots=True)
class Person:
    """A patient by number: the same number is the same person. Diabetic where it is not a multiple of three."""

    number: int

    @property
    def home(self) -> str:
        """Which system writes: es, nl, or de (with the Dutch one)."""
        return ("es", "nl", "es", "nl", "de")[self.number % 5]

    @property
    def identifier(self) -> str:
        """The value that Roche gets."""
        if self.home == "es":
            return f"{90_000_000 + self.number}{_LETTERS[(90_000_000 + self.number) % 23]}"
        return f"{7_000_000 + self.number}"

    @property
    def authority(self) -> str:
        """Who assigned it."""
        return "CIP" if self.home == "es" else "METEDA"

    @property
    def diabetic(self) -> bool:
        """Whether a diagnosis goes to Roche."""
        return self.number % 3 != 0

    @property
    def charset(self) -> tuple[str, str]:
        """MSH-18 and its codec."""
        spanish = (("8859/1", "iso8859-1"), ("UNICODE UTF-8", "utf-8"))
        other = (("8859/15", "iso8859-15"), ("UNICODE UTF-8", "utf-8"), ("8859/1", "iso8859-1"))
        return spanish[self.number // 2 % 2] if self.home == "es" else other[self.number % 3]

    @property
    def name(self) -> str:
        """PID-5."""
        if self.home == "es":
            first, second, given, _ = _SPANISH[self.number % len(_SPANISH)]
            return f"{first} {second}^{given}^^^^^L"
        if self.home == "de":
            family, given, _ = _GERMAN[self.number % len(_GERMAN)]
            return f"{family}^{given}^^^Dr.^^L"
        own, prefix, partner, partner_prefix, given, initials, _ = _DUTCH[self.number % len(_DUTCH)]
        used = " ".join(part for part in (partner_prefix, partner) if part)
        used = f"{used}-{prefix} {own}".strip() if used else f"{prefix} {own}".strip()
        return f"{used}&{prefix}&{own}&{partner_prefix}&{partner}^{given}^{initials}^^^^L"

    @property
    def sex(self) -> str:
        """PID-8, as the system writes it."""
        table: dict[str, tuple[tuple[str, ...], ...]] = {"es": _SPANISH, "nl": _DUTCH, "de": _GERMAN}
        people = table[self.home]
        return people[self.number % len(people)][-1]

    @property
    def birth(self) -> str:
        """PID-7: most to the day, some with a time."""
        day = dt.date(1931, 1, 1) + dt.timedelta(days=self.number * 397 % 27_000)
        return f"{day:%Y%m%d}" + ("0000" if self.number % 7 == 0 else "")

    def telecom(self, version: int) -> str:
        """PID-13 in the forms that are seen; the number changes with the version, the e-mail address is the person's own."""
        line = 1000 + (self.number * 10 + version) % 9000
        phone = {
            "es": (f"60000{line}^PRN^CP", f"^PRN^PH^^34^91^555{line}", f"+34 600 00 {line}^PRN^PH")[self.number % 3],
            "nl": (f"020-555{line}^PRN^PH", f"06-1000{line}^PRN^CP")[self.number % 2],
            "de": f"(030) 5550{line}^PRN^PH",
        }[self.home]
        return f"{phone}~^NET^Internet^patient{self.number}@example.org" if self.number % 4 else phone


@dataclass(frozen=True, slots=True)
class Adt:
    """One message to be written; fields that are None are as the person has them."""

    person: Person
    trigger: str
    control_id: str
    when: dt.datetime
    version: int = 0
    """Of the person's data: changes the telephone number."""
    type: str = "ADT"
    structure: str | None = None
    processing: str = "P"
    pid3: str | None = None
    name: str | None = None
    birth: str | None = None
    telecom: str | None = None
    prior: Person | None = None

    def bytes(self) -> bytes:
        """As it is sent, without a frame."""
        label, codec = self.person.charset
        when = f"{self.when:%Y%m%d%H%M%S}"
        spanish = self.person.home == "es"
        application, facility = ("HOSIX", "HUDEMO") if spanish else ("ZIS", "ZGDEMO")
        structure = self.structure or {"A04": "ADT_A01", "A08": "ADT_A01", "A28": "ADT_A05", "A31": "ADT_A05"}.get(
            self.trigger, f"ADT_{self.trigger}"
        )
        kind = f"{self.type}^{self.trigger}^{structure}"
        lines = [
            rf"MSH|^~\&|{application}|{facility}|EMRPIPE|MW|{when}||{kind}|{self.control_id}|{self.processing}|2.5|||AL|NE||{label}",
            f"EVN|{self.trigger}|{when}||||{when}",
            self._pid(),
            "PD1||||99999^HUISARTS^DEMO",
            *([f"MRG|{_cx(self.prior)}||||||{self.prior.name}"] if self.prior else []),
            f"NK1|1|CONTACT^PERSON|SPO|||0900{1000 + self.person.number}",
            f"PV1|1|O|POLI^{self.person.number % 9}^1||||10001^ARTS^DEMO|||END||||||||{self._visit()}",
            "PV2|||^Control",
            *self._diagnoses(when[:8]),
            f"IN1|1|BASIS|{300 + self.person.number % 9}|VERZEKERAAR DEMO",
            f"ZPI|1|{self.person.home.upper()}|{self.version}",
        ]
        return (CR.join(lines) + CR).encode(codec)

    def _visit(self) -> str:
        return f"V{self.person.number:06}^^^VISIT^VN"

    def _pid(self) -> str:
        person = self.person
        birth = person.birth if self.birth is None else self.birth
        identifiers = self.pid3 if self.pid3 is not None else f"{_cx(person)}~{4000 + person.number}^^^HIS^MR"
        name = person.name if self.name is None else self.name
        telecom = person.telecom(self.version) if self.telecom is None else self.telecom
        street = (
            "Calle Mayor 1^^Ávila^^05001^ESP^H" if person.home == "es" else "Dorpsstraat 1&Dorpsstraat&1^^Delft^^2611 AA^NLD^H"
        )
        return f"PID|1||{identifiers}||{name}||{birth}|{person.sex}|||{street}||{telecom}|||{'S' if person.number % 2 else 'M'}"

    def _diagnoses(self, day: str) -> list[str]:
        other = _OTHER[self.person.number % len(_OTHER)]
        rows = [_DIAGNOSES[self.person.number % len(_DIAGNOSES)], other] if self.person.diabetic else [other]
        return [f"DG1|{n}||{code}^{text}^{system}||{day}|W" for n, (code, text, system) in enumerate(rows, 1)]


def _cx(person: Person) -> str:
    return f"{person.identifier}^^^{person.authority}^PI"
