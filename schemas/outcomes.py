"""The closed vocabularies of what became of a message: states, reasons, findings.

They stand on topics, in the ledger and in the runbook, so a name here is never renamed, only added. No free text goes with them:
a reason is a code, its sentence below is for people.
"""

from enum import StrEnum
from typing import Final, Self


class State(StrEnum):
    """The one state in which a source record is, per route (DESIGN section 4)."""

    DELIVERED = "delivered"
    FILTERED = "filtered"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    DISCARDED = "discarded"
    PENDING = "pending"
    PARKED = "parked"
    UNKNOWN = "unknown"


CLOSED = frozenset({State.DELIVERED, State.FILTERED, State.DUPLICATE, State.SUPERSEDED, State.DISCARDED})
"""States that need nobody any more; the others are open."""


class Reason(StrEnum):
    """Why a message did not arrive (parked, unknown, filtered, superseded) or an attempt did not settle."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        """Keep the sentence beside the code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    # the bytes
    EMPTY = "empty", "the record has no value (a tombstone, or nothing between the frame bytes)"
    NOT_HL7 = "not_hl7", "no readable MSH segment"
    TOO_LARGE = "too_large", "larger than the size limit of the site"
    CHARSET = "charset", "bytes that the declared character set does not have, in a field that decides"
    STRUCTURE = "structure", "the strict check of the message structure failed (a setting of the route)"
    # the event
    EVENT_MISSING = "event_missing", "MSH-9 has no trigger event, and no EVN-1 helps"
    EVENT_UNLISTED = "event_unlisted", "the events table has no row for this event on this route"
    PATIENT_MISSING = "patient_missing", "no PID segment, or no patient identifier in it"
    SEVERAL_PATIENTS = (
        "several_patients",
        "the message is about several patients: the sender has to split it, one message for each",
    )
    SEVERAL_RESULTS = "several_results", "the message has several results: the sender has to split it, one message for each"
    SEVERAL_APPOINTMENTS = (
        "several_appointments",
        "the message has several appointments (SCH): the sender has to split it, one message for each",
    )
    RESULT_STATUS_MIXED = (
        "result_status_mixed",
        "the results of the message have statuses (OBX-11, OBR-25) that contradict each other",
    )
    DEFECT = "defect", "the program itself failed on this message, at the place in its code that is named"
    # filtered
    EVENT_NOT_FOR_PARTNER = "event_not_for_partner", "the partner has no use for this event"
    PARTNER_HAS_NO_VISIT = "partner_has_no_visit", "the event changes a visit, and the partner keeps none"
    PARTNER_HAS_NO_DELETE = "partner_has_no_delete", "the event deletes or cancels, and the partner offers no such operation"
    PARTNER_HAS_NO_MERGE = "partner_has_no_merge", "the merge is recorded here; the partner offers no such operation"
    MERGE_LEAVES_TWO = (
        "merge_leaves_two",
        "the merge is recorded here; the partner offers none and now has two records of one person: tell it",
    )
    RESULT_NOT_FINAL = "result_not_final", "the result is not final yet: preliminary, pending, or not there"
    RESULT_NOT_KNOWN = (
        "result_not_known",
        "the event takes back a result that the partner never got: there is nothing to take back",
    )
    VISIT_NOT_KNOWN = "visit_not_known", "the event takes back a visit that the partner never got: there is nothing to take back"
    APPOINTMENT_NOT_KNOWN = (
        "appointment_not_known",
        "the event is about a visit that was never announced as an appointment: there is none to change or to take back",
    )
    EXPECTED_MISSING = (
        "expected_missing",
        "the event does not say when the patient is expected (PV2-8): it says nothing of an appointment",
    )
    PART2_NOT_ALLOWED = (
        "part2_not_allowed",
        "the route does not list this facility and program as ones whose messages may go to this partner (42 CFR Part 2)",
    )
    FACILITY_NOT_ROUTED = "facility_not_routed", "the route does not take messages of this facility"
    NOT_PRODUCTION = (
        "not_production",
        "MSH-11 is none of the values that site.processing_ids takes (production only, unless the settings say more)",
    )
    # identity and order
    STALE = "stale", "something newer of the same subject was delivered before"
    OLDER_SNAPSHOT = "older_snapshot", "a newer snapshot of the same subject was delivered, so this one is not needed any more"
    BLOCKED_BEHIND = "blocked_behind", "an earlier message of the same patient is open, and this one must not pass it"
    IDENTITY_CONFLICT = "identity_conflict", "the message has identifiers that the partner knows as different patients"
    PART_ID_MISSING = "part_id_missing", "the partner has this visit, coverage or result, and it is not known here under which id"
    PART_OF_ANOTHER = "part_of_another", "the partner has this visit, coverage, result or appointment with another patient"
    MERGE_NEEDS_REKEY = "merge_needs_rekey", "the partner knows only the prior patient and has no way to change its identifier"
    MERGE_REFUSED = (
        "merge_refused",
        "the merge is of two who have each a BSN of their own, or its survivor's numbers are two persons': an operator decides",
    )
    NUMBER_MOVED = "number_moved", "a number goes from one patient to another, and an operator says what goes with it"
    MERGE_CYCLE = "merge_cycle", "the merge would make a patient its own survivor"
    MERGED_PRIOR = "merged_prior", "the message is of a patient who was merged into another"
    # mapping and checks
    MAPPING_FAILED = "mapping_failed", "the template failed on this message"
    MAPPING_DEADLINE = "mapping_deadline", "the template took too long or made too much"
    FHIR_INVALID = "fhir_invalid", "the resource breaks FHIR's own rules"
    PROFILE_REQUIRED = "profile_required", "the partner's profile makes an element mandatory that this message cannot fill"
    PROFILE_INVALID = "profile_invalid", "an element breaks the partner's profile"
    IDENTIFIER_SYSTEM = "identifier_system", "no identifier of the patient has a system that the partner accepts"
    DIAGNOSIS_REQUIRED = "diagnosis_required", "the route demands a diabetes diagnosis, and the message has none"
    TIME_MISSING = (
        "time_missing",
        "the message does not tell when the appointment begins or when it ends, and it is not cancelled: nobody could come to it",
    )
    WOULD_ERASE = "would_erase", "an update would erase what the message could not say"
    NUMBER_MISSING = (
        "number_missing",
        "a visit, a coverage or a result without its number (PV1-19, IN1-36; OBR-3 or OBR-2): it could not be known again",
    )
    FACILITY_NOT_MAPPED = "facility_not_mapped", "the settings name no provider id for the sending facility (MSH-4)"
    PAYOR_NOT_MAPPED = "payor_not_mapped", "the settings name no organization for the payor of a coverage (IN1)"
    # not sent
    NOT_SENT_DNS = "not_sent_dns", "the partner's host name does not resolve"
    NOT_SENT_CONNECT = "not_sent_connect", "no TCP connection to the partner"
    NOT_SENT_TLS = "not_sent_tls", "the TLS handshake with the partner failed"
    NOT_SENT_STOOD_STILL = "not_sent_stood_still", "the process stood still, so it did not send any more; it is tried again"
    NOT_SENT_CERTIFICATE = "not_sent_certificate", "our client certificate is expired, not yet valid, or does not fit its key"
    NOT_SENT_TOKEN = "not_sent_token", "no access token could be had from the partner's authorization server"
    # no answer that tells
    TIMEOUT = "timeout", "no answer within the read time-out or the deadline"
    CONNECTION_LOST = "connection_lost", "the connection broke after the first byte was sent"
    ANSWER_TOO_LARGE = "answer_too_large", "the answer's body is larger than the cap"
    ANSWER_UNREADABLE = "answer_unreadable", "a success status with a body that is not the partner's"
    FOUND_AFTER_CRASH = "found_after_crash", "the worker stopped between intent and answer"
    AWAITING_PROBE = "awaiting_probe", "it is not known whether the partner took it, and the probe's time has not come"
    PROBE_CANNOT_TELL = (
        "probe_cannot_tell",
        "it is not known whether the partner took it, and no probe can tell: an operator decides",
    )
    # the partner's word
    THROTTLED = "throttled", "the partner asked us to wait"
    UNAVAILABLE = "unavailable", "the partner is not available and did nothing"
    PARTNER_TIMEOUT = "partner_timeout", "the partner timed out inside (issue code timeout, or 504)"
    PARTNER_EXCEPTION = "partner_exception", "the partner failed inside (issue code exception, or 5xx)"
    REJECTED_REQUIRED = "rejected_required", "the partner misses a required element"
    REJECTED_STRUCTURE = "rejected_structure", "the partner could not parse what we sent"
    REJECTED_INVALID = "rejected_invalid", "the partner found the content invalid against the specification or a profile"
    REJECTED_TOO_LONG = "rejected_too_long", "the partner found the content too long"
    REJECTED_NOT_SUPPORTED = "rejected_not_supported", "the partner does not support the request"
    REJECTED_DUPLICATE = "rejected_duplicate", "the partner has the patient already and does not say under which id"
    REJECTED_NOT_FOUND = "rejected_not_found", "the partner does not know the id that we update"
    REJECTED_CONFLICT = "rejected_conflict", "the partner sees a conflict with what it has"
    REJECTED_STORED = "rejected_stored", "the partner has this response stored and does not let it be changed or deleted"
    TARGET_UNKNOWN = "target_unknown", "the partner does not know the dossier or the questionnaire that the result is for"
    REJECTED_OTHER = "rejected_other", "the partner refused the request for a reason that its dossier does not list"
    REFUSED_LABEL = "refused_label", "the partner refused the security label of this message: the provider id of its facility"
    REFUSED_CLIENT = "refused_client", "the partner refused our client id, secret or organisation: nobody's message"
    REFUSED_CERTIFICATE = "refused_certificate", "the partner refused our client certificate: nobody's message"
    REFUSED_TOKEN = (
        "refused_token",
        "the partner's authorization server refuses our client (id, secret, key, grant or scope): nobody's message",
    )
    LOGIN_NEEDED = "login_needed", "nobody has logged in at the partner, or the login has ended: emr-pipeline login"
    # people
    OPERATOR = "operator", "an operator decided"


PROFILE: Final = frozenset({Reason.PROFILE_REQUIRED, Reason.PROFILE_INVALID, Reason.IDENTIFIER_SYSTEM, Reason.DIAGNOSIS_REQUIRED})
"""Reasons that are the partner's profile: readable and mapped, but not what it accepts."""

OUTCOME_UNKNOWN: Final = frozenset(
    {
        Reason.TIMEOUT,
        Reason.CONNECTION_LOST,
        Reason.ANSWER_TOO_LARGE,
        Reason.ANSWER_UNREADABLE,
        Reason.FOUND_AFTER_CRASH,
        Reason.AWAITING_PROBE,
        Reason.PROBE_CANNOT_TELL,
        Reason.PARTNER_TIMEOUT,
        Reason.PARTNER_EXCEPTION,
    }
)
"""Parked for one of these, a create may have been done there: no other create of the patient leaves (RELIABILITY section 1)."""

COMES_BACK: Final = frozenset({Reason.BLOCKED_BEHIND, Reason.AWAITING_PROBE})
"""Parked for one of these, a message goes on by itself when what it waits for has ended."""


class Severity(StrEnum):
    """How much a finding weighs: an error fails the message, a warning costs a field, information costs nothing."""

    ERROR = "error"
    WARNING = "warning"
    INFORMATION = "information"


class FindingCode(StrEnum):
    """What was noticed on the way. A finding carries places, never values."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        """Keep the sentence beside the code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    # reading
    UNDECODABLE = "undecodable", "bytes that the character set does not have were replaced"
    CHARSET_UNKNOWN = "charset_unknown", "MSH-18 names a character set that is not known; the site's default was used"
    CHARSET_WRONG = "charset_wrong", "the bytes are not in the character set that MSH-18 names; one that fits was used instead"
    CHARSET_ESCAPE = "charset_escape", "an escape that switches character sets (\\C..\\, \\M..\\) was left as it is"
    ESCAPE_UNKNOWN = "escape_unknown", "an escape sequence that the standard does not have was left as it is"
    DELIMITERS = "delimiters", "MSH-1 or MSH-2 is shorter, longer or stranger than the standard says"
    SEGMENT_UNREADABLE = "segment_unreadable", "a line that is no segment was kept but not read"
    TIMESTAMP = "timestamp", "a timestamp that does not exist or cannot be read; the field counts as not there"
    TIME_AMBIGUOUS = "time_ambiguous", "a local time that happens twice (daylight saving); the first was taken"
    TIME_NONEXISTENT = "time_nonexistent", "a local time that never happens (daylight saving); it was moved by the gap"
    ZONE_ASSUMED = "zone_assumed", "no offset in the message; the site's zone was taken"
    STRUCTURE = "structure", "the message structure differs from its grammar"
    PATIENTS_SEVERAL = "patients_several", "several PID segments; the event is the first one's, the others stand in `others`"
    # routing
    KEY_MISSING = "key_missing", "the record has no key; order per patient still holds through the ledger"
    EVENT_TIME_AHEAD = (
        "event_time_ahead",
        "the event time lies far ahead of the record's own time and counts as missing: the place in the topic decides what is newer",
    )
    CONTROL_ID_REUSED = "control_id_reused", "another message had the same control id (MSH-10)"
    # mapping
    CODE_UNMAPPED = "code_unmapped", "a code that the code table does not have; the element was left out"
    DIAGNOSIS_DROPPED = "diagnosis_dropped", "a diagnosis that the partner does not take was left out"
    DIAGNOSIS_NONE = "diagnosis_none", "no diabetes diagnosis in the message: sent without a Condition"
    ELEMENT_DROPPED = "element_dropped", "an element that fails its check was left out"
    # checks
    UNKNOWN_ELEMENT = "unknown_element", "FHIR has no such element here"
    MISSING_ELEMENT = "missing_element", "an element that must be there is not"
    WRONG_TYPE = "wrong_type", "the value is not of the element's type"
    WRONG_FORMAT = "wrong_format", "the value does not have the form that its type demands"
    NOT_IN_BINDING = "not_in_binding", "the code is not in the required value set"
    CARDINALITY = "cardinality", "too few or too many repetitions"
    CHOICE = "choice", "more than one type of a choice element"
    REFERENCE_TYPE = "reference_type", "the reference's target type is not allowed here"
    REFERENCE_BROKEN = "reference_broken", "the reference points at nothing in the bundle"
    ID_COLLISION = "id_collision", "two entries have the same id or fullUrl"
    INVARIANT = "invariant", "a rule of the specification does not hold"
    NOT_IN_PROFILE = "not_in_profile", "the partner's profile forbids the element"
    PROFILE_MANDATORY = "profile_mandatory", "the partner's profile makes the element mandatory"
    PROFILE_LENGTH = "profile_length", "longer than the partner's profile allows"
    PROFILE_SYSTEM = "profile_system", "the partner's profile does not have this system or code"
