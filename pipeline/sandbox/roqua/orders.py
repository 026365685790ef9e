"""What happens at RoQua without a request, on the order of whoever drives the stand-in: a patient is invited, fills out a questionnaire, gives up.

`complete` fills out the oldest open response of that dossier and questionnaire, or makes one; `invite` makes an open one. The record stands
in the log, so that it is there after a restart.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import SettingsError
from pipeline.sandbox.roqua.questionnaires import HONOS_PLUS, KNOWN
from pipeline.sandbox.roqua.records import Record, Responses, record

Time = Annotated[float, Field(ge=0, le=253_402_210_000)]
"""Unix seconds."""
OPEN: Final = frozenset({"open", "scheduled", "new", "inactive"})


class Order(BaseModel):
    """One of them; `values` are option values, as 4, or option keys, as a4."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    dossier: str = Field(min_length=1)
    key: str = HONOS_PLUS
    values: dict[str, int | float | str | None] = Field(default_factory=dict)
    at: Time | None = None
    started_at: Time | None = None
    open_from: Time | None = None
    open_till: Time | None = None
    status: str = ""
    """completed for `complete`, open for `invite`, unless told."""
    completer_type: str | None = "patient"
    requesters: tuple[str, ...] = ()
    protocol_subscription_id: str | None = None
    hide_values: bool = False


def carry_out(name: str, details: Mapping[str, Any], responses: Responses, now: float) -> Record:
    """The response as it stands afterwards. SettingsError where the order is none."""
    try:
        order = Order.model_validate(details)
        values = {key: _value(order.key, key, value) for key, value in order.values.items()}
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"{first['msg']}; details are {', '.join(Order.model_fields)}", where=f"order {name}:{place}"
        ) from None
    except KeyError:
        raise SettingsError(
            "a question or an option that the questionnaire does not have", where=f"order {name}:values"
        ) from None
    told = _told(order)
    if name == "complete":
        at = now if order.at is None else order.at
        told |= {"status": order.status or "completed", "completed_at": at, "values": values}
        there = next((one for one in responses.of(order.dossier) if _waits(one, order.key)), None)
        written = responses.change(there, **told) if there else responses.add(record(**told))
    else:
        written = responses.add(record(**told, status=order.status or "open"))
    return written.resource


def _told(order: Order) -> dict[str, Any]:
    return {
        "dossier": order.dossier,
        "questionnaire_key": order.key,
        "started_at": order.started_at,
        "open_from": order.open_from,
        "open_till": order.open_till,
        "completer_type": order.completer_type,
        "requesters": [{"epd_id": one} for one in order.requesters],
        "protocol_subscription_id": order.protocol_subscription_id,
        "hide_values": order.hide_values,
    }


def _waits(one: Record, key: str) -> bool:
    return one["questionnaire_key"] == key and one["status"] in OPEN


def _value(key: str, question: str, answer: float | str | None) -> Any:  # noqa: ANN401 - JSON
    """KeyError where there is no such question or option."""
    if key not in KNOWN:
        return answer
    options = KNOWN[key].questions[question].options
    return answer if answer is None or not options or answer in options.values() else options[str(answer)]
