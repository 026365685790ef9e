"""A patient's appointments as a page: one file without scripts, pictures or anything from elsewhere. It holds patient data. No I/O."""

import datetime as dt
from collections.abc import Iterable
from html import escape
from typing import Final

from pipeline.commands.fetch.table import texts
from pipeline.model import Resource

COLUMNS: Final = {
    "when": "When",
    "what": "What",
    "with": "With",
    "where": "Where",
    "instructions": "Before you come",
    "status": "Status",
}
WORDS: Final = {
    "proposed": "proposed, not yet planned",
    "pending": "not yet confirmed",
    "booked": "planned",
    "arrived": "you are there",
    "fulfilled": "took place",
    "cancelled": "cancelled",
    "noshow": "missed",
    "entered-in-error": "removed by the hospital",
}
OFF: Final = frozenset({"cancelled", "noshow", "entered-in-error"})
STYLE: Final = """
:root { color-scheme: light; }
body { font: 1.0625rem/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 70rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.75rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
p { margin: 0 0 .5rem; color: #454c54; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .6rem .75rem; border-bottom: 1px solid #c9d1d9; }
thead th { border-bottom: 2px solid #57606a; white-space: nowrap; }
tbody th { font-weight: 600; white-space: nowrap; }
td.with { white-space: nowrap; }
tr.off th, tr.off td { color: #57606a; } tr.off th time, tr.off .what { text-decoration: line-through; }
@media print { body { max-width: none; padding: 0; } }
"""


def page(found: Iterable[Resource], hospital: str, now: dt.datetime) -> str:
    """What comes and what was, each by time; `now` has a zone."""
    appointments = sorted((one for one in found if one.get("resourceType") == "Appointment"), key=_start)
    coming = [one for one in appointments if _start(one) >= now]
    past = [one for one in reversed(appointments) if _start(one) < now]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Your appointments, {escape(hospital)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Your appointments</h1>
<p>{escape(hospital)}. As it was on <time datetime="{now.isoformat(timespec="minutes")}">{now:%Y-%m-%d %H:%M}</time>.</p>
{_section("Coming", coming)}
{_section("Past", past)}
</main>
</body>
</html>
"""


def _section(title: str, appointments: list[Resource]) -> str:
    if not appointments:
        return f"<h2>{title}</h2>\n<p>None.</p>"
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS.values())
    rows = "\n".join(_row(one) for one in appointments)
    return f"""<h2 id="{title.lower()}">{title}</h2>
<div class="scroll" role="region" aria-labelledby="{title.lower()}" tabindex="0">
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>"""


def _row(appointment: Resource) -> str:
    cells = texts("Appointment", appointment)
    off = ' class="off"' if cells["status"] in OFF else ""
    start = escape(str(appointment.get("start", "")), quote=True)
    when = f'<th scope="row"><time datetime="{start}">{escape(cells["when"])}</time></th>'
    others = [name for name in COLUMNS if name not in {"when", "status"}]
    rest = "".join(f'<td class="{name}">{escape(cells[name])}</td>' for name in others)
    return f"<tr{off}>{when}{rest}<td>{escape(WORDS.get(cells['status'], cells['status']))}</td></tr>"


def _start(appointment: Resource) -> dt.datetime:
    """Without a start it stands first among what was: FHIR wants none of what is cancelled."""
    try:
        found = dt.datetime.fromisoformat(str(appointment.get("start", "")))
    except ValueError:
        return dt.datetime.min.replace(tzinfo=dt.UTC)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
