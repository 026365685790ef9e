"""How RoQua's stand-in behaves where the contract is silent or contradicts itself. As knobs.py; each names its section of contracts/roqua.md."""

from typing import Final, Literal

from pydantic import Field

from pipeline.sandbox.knobs import Common, Seconds

TOKEN_KEY: Final = "token_key"  # noqa: S105 - its name, not its secret


class RoquaKnobs(Common):
    """All knobs of RoQua."""

    # who may do what
    tokens: tuple[str, ...] = (
        f"{TOKEN_KEY}=all",
        "fhir_reader=fhir_read",
        "fhir_writer=fhir_write",
        "responses=responses_read+responses_write",
    )
    """consumer_key=right+right; rights are fhir_read, fhir_write (section 2.1), responses_read, responses_write, questionnaires, health (their
    names are ours), all. The secret of each is the file client-secret; one that is not named is unknown or revoked: 401."""
    jwt: Literal["rest", "everywhere", "refused"] = "rest"
    """Where a JWT is taken: /api (section 2.2; for /medmij_fhir Basic alone is shown), everywhere, nowhere."""
    jwt_issuer: str = ""
    """The iss that it knows; nothing: any."""
    unauthorized_body: Literal["empty", "text", "json"] = "empty"
    """Of 401 and 403: none is documented (section 5)."""
    rate_limit: int = Field(default=0, ge=0)
    """So many requests in rate_seconds, then 429 (section 5: there is a limiter, its numbers are not known); 0: none."""
    rate_seconds: Seconds = 60.0
    """The window of rate_limit."""
    rate_retry_after: Literal["absent", "seconds", "date"] = "absent"
    """Whether 429 has a Retry-After (section 5: not documented)."""

    # dossiers
    known_dossiers: tuple[str, ...] = ()
    """Those that were opened in RoQua (section 2.3); none named: every dossier is there."""
    unknown_dossier: Literal["not-found", "invalid", "created"] = "not-found"
    """A write to another one: 404, 422, or (worst) it is made (section 10, open)."""
    unknown_dossier_list: Literal["empty", "not-found"] = "empty"
    """GET responses of another one: nothing is documented; the FHIR read is an empty Bundle either way (section 3)."""

    # what a request must be
    content_type: Literal["documented", "any"] = "documented"
    """application/json alone (section 4), or any media type."""
    content_type_status: Literal[415, 400, 422] = 415
    """Its status (not documented)."""
    errors: Literal["arrays", "strings", "nested", "empty", "html"] = "arrays"
    """Body of 422: {"errors": {field: [code]}}; field: "code"; one level deeper; nothing; a page (section 5)."""
    invalid_status: Literal[422, 400] = 422
    """Of what validation refuses."""

    # HoNOS+ documents
    document_shape: Literal["published", "loose"] = "published"
    """Whether names, ids, profiles, references and texts must be those of the published example (section 4.1), or only what an answer needs."""
    bundle_identifier: Literal["accepted", "refused", "required"] = "accepted"
    """Bundle.identifier (bdl-9): the example has none (section 4.4)."""
    dossier_system: str = ""
    """identifier.system of Composition.subject; nothing: any (tenant specific, section 4.1)."""
    professional_system: str = ""
    """identifier.system of Composition.author; nothing: any."""
    item8: Literal["optional", "required"] = "optional"
    """The component of item 8 where its value is not 0: the one example has it (section 4.1)."""
    unknown_codes: tuple[str, ...] = ()
    """Answer codes that stand for `unknown`, with value 9 (section 4.2: not documented)."""
    document_created: Literal[201, 200, 204] = 201
    """Status of a PUT that made a response (section 4: not documented)."""
    document_updated: Literal[200, 201, 204] = 200
    """Status of a PUT that changed one."""
    document_again: Literal["updated", "forbidden", "conflict", "twice"] = "updated"
    """A PUT of an id that is there: it is changed, 403, 409, or (worst) there are two (section 4)."""
    document_body: Literal["bundle", "empty", "text", "response"] = "bundle"
    """What a success has as body (not documented)."""
    document_errors: Literal["outcome", "errors", "empty"] = "outcome"
    """Whether errors of /medmij_fhir are OperationOutcomes, as those of /api (knob errors), or nothing (section 10, open)."""

    # responses
    questionnaires: tuple[str, ...] = ("honos_plus", "oq45")
    """Keys that are known, else 404; of others than these two any answer is taken."""
    external_id: Literal["required", "optional"] = "required"
    """Of a POST: the brief requires it, the recorded sample has none (section 6.2)."""
    respondents: tuple[str, ...] = ("patient", "profess")
    """Found; the brief has parent, second_parent, teacher, caregiver besides (section 6.2)."""
    respondent_parameter: Literal["either", "respondent", "respondent_type"] = "either"
    """Its name; the other one is not looked at (section 6.2)."""
    answers: Literal["checked", "any"] = "checked"
    """Whether question and option keys must be the questionnaire's (section 6.2)."""
    incomplete: Literal["accepted", "invalid"] = "accepted"
    """A POST or PUT that leaves questions out (not documented)."""
    create_again: Literal["updated", "forbidden", "invalid", "twice"] = "updated"
    """A POST of an external_id that is there: found to change it; 403, 422, or (worst) there are two (section 6.2)."""
    create_again_status: Literal[201, 200] = 201
    """Its status where it changes one."""
    update_stored: Literal["accepted", "forbidden"] = "accepted"
    """A PUT of a completed response: found since 2023-12 to change it, 403 by the brief (section 6.3)."""
    update_unknown: Literal["not-found", "created"] = "not-found"
    """A PUT of an external_id that is not there: 404 by the brief, made by an upsert (sections 6.2, 6.3)."""
    path_id: Literal["external", "internal", "either"] = "external"
    """What stands in the path of PUT and DELETE (section 6.3: the text says external_id, the sample has the internal id)."""
    external_id_shown: Literal["shown", "absent"] = "shown"
    """In the table of the brief, in none of its samples (section 6.1)."""
    time_filters: Literal["exclusive", "inclusive"] = "exclusive"
    """completed_before and completed_after."""
    profess_completer: Literal["profess", "ad_hoc_professional", "null"] = "profess"
    """completer_type of a response that a professional filled out (section 6.1: an open list, may be null)."""

    # reads
    subject_parameter: Literal["either", "subject", "patient.identifier"] = "either"
    """Name of the FHIR read's parameter (section 3, conflict); another one is not looked at."""
    no_subject: Literal["empty", "invalid"] = "empty"
    """A read without it: an empty Bundle, or refused (not documented)."""
    last_responses: int = Field(default=50, gt=0)
    """Of a FHIR read: only the last so many (section 3)."""
    answer_media: Literal["application/json; charset=utf-8", "application/fhir+json"] = "application/json; charset=utf-8"
    """Content-Type of answers of /medmij_fhir (section 3: not documented)."""
    patient_system: str = ""
    """identifier.system of Observation.subject; nothing: there is none (section 3)."""
