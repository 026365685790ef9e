"""HL7 data types to the members of schemas/event.py: one function for each type, a raw repetition in, a dict out (empty: nothing there).

Plain dicts, of which segments.py builds the parts (the hot path). Text is stripped of blanks (v2.5 chapter
2.A.74: trailing blanks are optional, and an identifier must not differ by them). A field that is `""` gives NULL for every member.
"""

from functools import lru_cache
from typing import Final

from pipeline.hl7.message import Message
from pipeline.hl7.parts import Members
from pipeline.hl7.paths import place
from pipeline.hl7.timestamps import timestamp
from pipeline.model import Finding
from schemas.event import (
    NULL,
    Address,
    Coded,
    EntityIdentifier,
    Identifier,
    Interpreter,
    Location,
    Name,
    Null,
    Practitioner,
    Telecom,
    Text,
    Timestamp,
    Zone,
)
from schemas.outcomes import FindingCode, Severity

Names = tuple[str | None, ...]
_CODED: Final[Names] = tuple(Coded.model_fields)
_XTN: Final[Names] = ("number", "use", "equipment", "email")
_XCN: Final[Names] = ("identifier", None, "given", None, None, "prefix", None, None, None, None, None, None, "type")
_CX_TIMES: Final = ((6, "start"), (7, "end"))
_CX: Final[Names] = ("value", "check_digit", None, None, "type", "facility")
_HD: Final[Names] = ("authority", "authority_oid", "authority_oid_type")
_LOCATION: Final[Names] = ("point_of_care", "room", "bed", "facility", None, None, "building", "floor", "description")
_ADDRESS: Final[Names] = (None, "other", "city", "state", "postal_code", "country", "type")
_NAME: Final[Names] = (None, "given", "middle", "suffix", "prefix", "degree", "type")
_EI: Final[Names] = ("value", "authority", "authority_oid", "authority_oid_type")
_CNN: Final[Names] = ("identifier", "family", "given", None, None, "prefix", None, None, "authority", "authority_oid")
_SURNAME: Final[Names] = ("family", "own_prefix", "own_family", "partner_prefix", "partner_family")
_STREET: Final[Names] = ("line", "street", "house_number")
_DELETED: Final = {
    model: dict.fromkeys(model.model_fields, NULL)
    for model in (Identifier, Name, Address, Telecom, Coded, Practitioner, Location, EntityIdentifier, Interpreter)
}
Where = tuple[str, int, int]
"""Segment, its number among those of its name, field."""


@lru_cache(maxsize=1024)
def _finding(code: FindingCode, where: Where, repetition: int, component: int) -> Finding:
    severity = Severity.INFORMATION if code is FindingCode.ZONE_ASSUMED else Severity.WARNING
    return Finding(code, severity, hl7=place(*where, repetition=repetition, component=component))


class Reader:
    """Reads the parts of one message; collects what could not be read, with its place."""

    __slots__ = ("_assumed", "_component", "_deleted", "_message", "_plain", "_repetition", "_sub", "_zone", "findings")

    def __init__(self, message: Message, zone: str) -> None:
        self._message = message
        self._zone = zone
        self._plain = message.plain
        self._component = message.delimiters.component or "\r"  # a character that no field has
        self._sub = message.delimiters.subcomponent or "\r"
        self._repetition = message.delimiters.repetition or "\r"
        self._assumed = False
        self.findings: list[Finding] = []

    def text(self, raw: str) -> Text:
        """Text without blanks around it; None where nothing is left."""
        if self._plain:
            return raw.strip() or None
        text = self._message.text(raw)
        return text.strip() or None if isinstance(text, str) else text

    def first(self, raw: str, _where: Where | None = None) -> Text:
        """The first sub-component of the first component of the first repetition: a field of which one text is wanted."""
        if self._repetition in raw:
            raw = raw.split(self._repetition, 1)[0]
        if self._component in raw:
            raw = raw.split(self._component, 1)[0]
        if self._sub in raw:
            raw = raw.split(self._sub, 1)[0]
        if self._plain:
            return raw.strip() or None
        return self.text(raw) if raw else None

    def repetitions(self, raw: str) -> list[str]:
        """The repetitions of a field; none of an empty one."""
        if not raw:
            return []
        return raw.split(self._repetition) if self._repetition in raw else [raw]

    def single(self, raw: str) -> str:
        """The first repetition of a field that should have one."""
        return raw.split(self._repetition, 1)[0] if self._repetition in raw else raw

    def named(self, whole: str, delimiter: str, names: Names, parts: list[str] | None = None) -> Members:
        """The parts of `whole` by name, each by its first sub-component. A name of None is somebody else's. `parts`: whole, split already."""
        if parts is None:
            parts = whole.split(delimiter)
        if self._plain:
            sub = self._sub
            if " " not in whole and (delimiter == sub or sub not in whole):
                return {name: raw for name, raw in zip(names, parts) if raw and name}  # noqa: B905 - as many as there are, and quick
            return {name: text for name, raw in zip(names, parts) if raw and name and (text := raw.split(sub, 1)[0].strip())}  # noqa: B905 - the same
        members: Members = {}
        for name, raw in zip(names, parts):  # noqa: B905 - the same
            if raw and name:
                value = self.text(raw.split(self._sub, 1)[0] if self._sub in raw else raw)
                if value is not None:
                    members[name] = value
        return members

    def time(self, raw: str, where: Where) -> Timestamp | Null | None:
        """A TS, DTM or DT field; None and a finding where it cannot be read."""
        precision = ""
        if self._repetition in raw:
            raw = raw.split(self._repetition, 1)[0]
        if self._component in raw:
            raw, precision = raw.split(self._component)[:2]
        return self._moment(raw, precision, where, 1, 0)

    def component_time(self, raw: str, where: Where, component: int) -> Timestamp | Null | None:
        """A time that is a component of the first repetition of its field, as TQ.4."""
        parts = self.single(raw).split(self._component)
        if len(parts) < component:
            return None
        return self._moment(parts[component - 1].split(self._sub, 1)[0], "", where, 1, component)

    def _moment(self, raw: str, precision: str, where: Where, repetition: int, component: int) -> Timestamp | Null | None:
        text = self.text(raw)
        if not isinstance(text, str):
            return text
        value, code = timestamp(text, zone=self._zone, precision=precision)
        if code is not None:
            self.findings.append(_finding(code, where, repetition, component))
        if value is not None and not self._assumed and value.zone is Zone.SITE:
            self._assumed = True
            self.findings.append(_finding(FindingCode.ZONE_ASSUMED, where, repetition, component))
        return value

    def cx(self, raw: str, where: Where, repetition: int = 1) -> Members:
        """CX to Identifier; also a bare number."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Identifier]
        parts = raw.split(self._component)
        members = self.named(raw, self._component, _CX, parts)
        if len(parts) > 3 and parts[3]:  # noqa: PLR2004 - CX.4
            members |= self.named(parts[3], self._sub, _HD)
        for at, name in _CX_TIMES if len(parts) > 6 else ():  # noqa: PLR2004 - CX.7
            if len(parts) > at and parts[at] and (time := self._moment(parts[at], "", where, repetition, at + 1)) is not None:
                members[name] = time
        return members

    def xpn(self, raw: str) -> Members:
        """XPN, or PN of old versions, to Name."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Name]
        parts = raw.split(self._component)
        members = self.surname(parts[0])
        members |= self.named(raw, self._component, _NAME, parts)
        return members

    def surname(self, raw: str) -> Members:
        """FN: the surname as it is used and its parts, each way round (`_as_used`)."""
        if self._sub not in raw:
            text = self.text(raw)
            return {} if text is None else {"family": text}
        members = self.named(raw, self._sub, _SURNAME)
        _complete(members)
        return members

    def xad(self, raw: str) -> Members:
        """XAD, or AD of old versions, to Address; the line is put together where only street and number are there."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Address]
        members = self.named(raw, self._component, _ADDRESS)
        street = self.named(raw.split(self._component, 1)[0], self._sub, _STREET)
        if "line" not in street and isinstance(street.get("street"), str):
            street["line"] = _joined(street["street"], street.get("house_number"))
        return members | street

    def xtn(self, raw: str, use: str | None = None) -> Members:
        """XTN, or TN of old versions, to Telecom. `use` where the field tells it and the number does not."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Telecom]
        parts = raw.split(self._component)
        members = self.named(raw, self._component, _XTN, parts)
        if len(parts) > 4:  # noqa: PLR2004 - XTN.5 and on
            number = self._dialled(parts)
            if number is not None and ((len(parts) > 11 and parts[11]) or "number" not in members):  # noqa: PLR2004 - XTN.12
                members["number"] = number
        number = members.get("number")
        if isinstance(number, str) and "@" in number:
            members.setdefault("email", number)
            del members["number"]
        if use and members and "use" not in members:
            members["use"] = use
        return members

    def _dialled(self, parts: list[str]) -> Text:
        """XTN.12, else country code, area code, local number and extension."""
        if len(parts) > 11 and parts[11]:  # noqa: PLR2004 - XTN.12
            return self.text(parts[11])
        country, area, local, extension = ([self.text(part) for part in parts[4:8]] + [None] * 4)[:4]
        if not local:
            return None
        country = f"+{country.removeprefix('+')}" if isinstance(country, str) else None
        extension = f"x{extension}" if extension else None
        return " ".join(part for part in (country, area, local, extension) if isinstance(part, str))

    def ce(self, raw: str) -> Members:
        """CE, CWE, CNE, or an ID or IS that came without its text, to Coded."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Coded]
        return self.named(raw, self._component, _CODED)

    def xcn(self, raw: str) -> Members:
        """XCN, or CN of old versions, to Practitioner."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Practitioner]
        parts = raw.split(self._component)
        members = self.named(raw, self._component, _XCN, parts)
        count = len(parts)
        if count > 1:
            members |= self.surname(parts[1])
        if count > 8:  # noqa: PLR2004 - XCN.9
            members |= self.named(parts[8], self._sub, _HD[:2])
        return members

    def pl(self, raw: str) -> Members:
        """PL to Location."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Location]
        return self.named(raw, self._component, _LOCATION)

    def ei(self, raw: str) -> Members:
        """EI, or a bare number, to EntityIdentifier."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[EntityIdentifier]
        return self.named(raw, self._component, _EI)

    def ndl(self, raw: str) -> Members:
        """NDL to Interpreter: its first component, a CNN."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Interpreter]
        return self.named(raw.split(self._component, 1)[0], self._sub, _CNN)

    def sps(self, raw: str) -> Members:
        """SPS to Coded: its first component, a CWE."""
        if not raw:
            return {}
        if raw == '""':
            return _DELETED[Coded]
        return self.named(raw.split(self._component, 1)[0], self._sub, _CODED)


def _joined(*parts: object) -> str:
    return " ".join(part for part in parts if isinstance(part, str))


def _complete(members: Members) -> None:
    """Make a surname whole whichever of its parts the sender left out.

    - The surname as used (FN.1) is missing: prefix and own surname, or the partner's where there is no own one. The own name is the
      legal one in the Netherlands; that the partner's is used, and in which order, only FN.1 can tell.
    - FN.1 holds a surname without its prefix, which stands in FN.2 (or in FN.4 for the partner's): the prefix is put before it.
    - FN.1 and FN.2 alone (v2.3: family name and last name prefix): FN.1 without the prefix is the own surname.
    """
    family, own, partner = members.get("family"), members.get("own_family"), members.get("partner_family")
    own_prefix, partner_prefix = members.get("own_prefix"), members.get("partner_prefix")
    if not isinstance(family, str):
        if family is None and (
            whole := _joined(own_prefix, own) if own else _joined(partner_prefix, partner) if partner else None
        ):
            members["family"] = whole
        return
    if own is None and isinstance(own_prefix, str) and not partner:
        own = members["own_family"] = family[len(own_prefix) :].strip() if _begins(family, own_prefix) else family
    if isinstance(own_prefix, str) and family == own and not _begins(family, own_prefix):
        members["family"] = _joined(own_prefix, own)
    elif isinstance(partner_prefix, str) and family == partner and not _begins(family, partner_prefix):
        members["family"] = _joined(partner_prefix, partner)


def _begins(family: str, prefix: str) -> bool:
    return family.lower().startswith(f"{prefix} ".lower())
