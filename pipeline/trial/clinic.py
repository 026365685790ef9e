"""Seeded traffic of a clinic that treats substance use: clients with several visits and a coverage, for a partner that keeps those by themselves.

As traffic.py: each message knows what is to become of it, and all that could name a person is a canary. Nobody in it exists.
"""

import random
from typing import Final

from pipeline.trial.traffic import Message, Patient, Traffic, when
from schemas.outcomes import State

FACILITY: Final = "CLINIC"
PROGRAM: Final = "SUD-OP"
PAYOR: Final = "MEDICAID"
ASSIGNER: Final = "NJSAMS"
"""The assigning authority of client ids."""


def adt(client: Patient, event: str, minute: int, visit: int) -> bytes:
    """A message about one of his visits, with his coverage."""
    has, at = client.canaries, when(minute)
    pid = [
        "PID",
        "1",
        "",
        f"{client.name}^^^{ASSIGNER}^PI",
        "",
        f"{has['family name']}^{has['given name']}^^^^^L",
        "",
        client.birth,
    ]
    pid += ["F", "", "", f"{has['street']} 1^^Newark^NJ^07102^USA^H", "", "", "", "", "", "", "", has["SSN"]]
    pv1 = ["PV1", "1", "O", "ROOM", "", "", "", "", "", "", PROGRAM, *[""] * 8, f"{has['visit']}-{visit}^^^HIS^VN", *[""] * 24]
    in1 = ["IN1", "1", "PLAN", PAYOR, PAYOR, *[""] * 31, has["policy"]]
    segments = [
        f"MSH|^~\\&|HIS|{FACILITY}|EMR|PIPELINE|{at}||ADT^{event}|N{client.number:04}{minute:05}|P|2.5.1",
        f"EVN|{event}|{at}",
        "|".join(pid),
        "|".join([*pv1, when(0)]),
        "|".join(in1),
    ]
    return "\r".join(segments).encode()


def seeded(seed: int, *, clients: int = 8, visits: int = 2, updates: int = 1) -> Traffic:
    """The same traffic for the same seed: each client's visits begin one after the other, updates come to any that has begun."""
    random_ = random.Random(seed)  # noqa: S311 - the same every time, and no secret
    people = [Patient(number, seed) for number in range(clients)]
    lines = [(one, [("A04", visit) for visit in range(visits)]) for one in people]
    for _, steps in lines:
        for _ in range(updates * visits):
            place = random_.randint(1, len(steps))
            begun = max(visit for event, visit in steps[:place] if event == "A04")
            steps.insert(place, ("A08", random_.randint(0, begun)))
    messages: list[Message] = []
    while any(steps for _, steps in lines):
        client, steps = random_.choice([one for one in lines if one[1]])
        event, visit = steps.pop(0)
        minute = len(messages)
        value = adt(client, event, minute, visit)
        messages.append(Message(value, client.name.encode(), client.name, minute, event, State.DELIVERED))
    return Traffic(tuple(messages), tuple(people))
