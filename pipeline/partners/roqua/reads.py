"""What may be read at RoQua: Observations of a dossier by FHIR, and its responses by the REST API (contracts/roqua.md sections 3 and 6.1). A table, no I/O."""

from typing import TYPE_CHECKING, Any, Final

from pipeline.partners.searches import Search, moment, number, one_of

if TYPE_CHECKING:
    from pipeline.partners.roqua.reader import RoquaReader

STATUSES: Final = ("completed", "aborted", "open", "scheduled")
"""What responses may be asked by [BRIEF]; more occur in what comes [FOUND]."""
RESOURCES: Final = {
    "Observation": (Search("subject", "subject"),),
    "responses": (
        Search("dossier", "dossier_id"),
        Search("questionnaire-keys", "questionnaire_keys[]", several=True),
        Search("completed-before", "completed_before", moment),
        Search("completed-after", "completed_after", moment),
        Search("respondent-type", "respondent_type"),
        Search("respondent-id", "respondent_id", number),
        Search("status", "status", one_of({status: status for status in STATUSES})),
        Search("protocol-subscription-id", "protocol_subscription_id"),
    ),
}
"""The filters of the documents; `respondent-id` is FOUND, and `respondent-type` deprecated since then."""
DEPRECATED: Final = {"respondent-type": "RoQua has deprecated it: use --respondent-id"}


def reader(settings: Any) -> "RoquaReader":  # noqa: ANN401 - the settings block of either kind
    """RoQua's read side."""
    from pipeline.partners.roqua.reader import RoquaReader  # noqa: PLC0415 - 0.2 s that `fetch --help` does not need

    return RoquaReader.of(settings)
