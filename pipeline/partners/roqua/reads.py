"""What may be read at RoQua: Observations of a dossier by FHIR, and its responses by the REST API (contracts/roqua.md sections 3 and 6.1). A table, no I/O."""

from typing import Final

from pipeline.partners.searches import Search, moment, number, one_of

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
