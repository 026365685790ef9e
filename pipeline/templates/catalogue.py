"""The mappings of a site: templates, code tables and events, compiled once per partner, compiled anew when a file changes.

The only I/O of this package: reading the mappings folder, looked at no more than once a second. A change that does not compile is
logged and the last good state stays in use; at the first use it is a SettingsError with file and line.
"""

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jinja2 import Template, TemplateSyntaxError, UndefinedError

from pipeline import __version__
from pipeline.errors import Parked, SettingsError
from pipeline.fhir.metadata import Release
from pipeline.model import Finding, Resource
from pipeline.telemetry import LogEvent, log
from pipeline.templates import events, tables
from pipeline.templates.building import BuildingEnvironment
from pipeline.templates.context import Context, Rendered
from pipeline.templates.environment import (
    MappingContext,
    MappingEnvironment,
    Mistake,
    Names,
    Overrun,
    Rendering,
    begin,
    capped_range,
    tick,
)
from pipeline.templates.filters import filters_of
from pipeline.templates.lined import Lined, YamlMistake, load
from pipeline.templates.places import PlacedHl7, placed_event, placed_identity, placing
from pipeline.templates.provenance import Provenance
from pipeline.templates.reads import fields_read
from pipeline.templates.skeleton import NotUnderstood
from pipeline.templates.tables import CodeTable
from pipeline.templates.text import NotResources
from schemas.outcomes import Reason

SUFFIX: Final = ".json.j2"
LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at the files."""
BUDGET: Final = 0.5
"""Seconds of processor time that one message's templates may take."""


@dataclass(frozen=True, slots=True)
class Files:
    """A partner's files, with the site's in the place of those that they replace."""

    mapping: Path
    templates: Mapping[str, Path]
    """By name; macro files are among them."""
    tables: Mapping[str, tuple[Path | None, Path | None]]
    """By name: the base file and the site's."""
    events: tuple[Path, Path | None]

    def all(self) -> tuple[Path, ...]:
        """Every file that makes the partner's output."""
        pairs = [path for pair in self.tables.values() for path in pair]
        return tuple(path for path in (self.mapping, *self.templates.values(), *pairs, *self.events) if path is not None)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A partner's mapping, ready."""

    version: str
    release: Release
    rules: events.Rules
    tables: Mapping[str, CodeTable]
    templates: tuple[Template, ...]
    environment: MappingEnvironment
    fields: frozenset[str] | None
    """Of the event, those that the templates can read, and the rows of the events; None: it may be any."""
    files: Files
    stamp: tuple[tuple[str, int, int], ...]


class NotBuilt(Exception):
    """The event lacks fields that the templates read: the files have changed since it was built. Build all of it, and render again."""


class Catalogue:
    """See the module. One instance serves many threads."""

    def __init__(self, folder: Path, overlay: str | None = None) -> None:
        """`folder` is mappings/, `overlay` the name of a folder below mappings/sites."""
        self._folder = folder
        self._site = folder / "sites" / overlay if overlay else None
        if not folder.is_dir():
            raise SettingsError("there is no such folder", where=f"mappings: {folder}")
        if self._site is not None and not self._site.is_dir():
            raise SettingsError(f"there is no folder {self._site}", where="site.overlay")
        self._lock = threading.Lock()
        self._compiled: dict[str, Compiled] = {}
        self._provenance: dict[str, tuple[str, Provenance, tuple[Template, ...]]] = {}
        self._look_at: dict[str, float] = {}
        self._broken: dict[str, tuple[tuple[str, int, int], ...]] = {}

    def version(self, partner: str) -> str:
        """Hash of all that makes the partner's output: templates, macros, tables, events, the site's, and this program's version."""
        return self._of(partner).version

    def rules(self, partner: str) -> events.Rules:
        """`TYPE^TRIGGER` to EventRule; total over ADT."""
        return self._of(partner).rules

    def release(self, partner: str) -> Release:
        """The FHIR release of the partner's resources."""
        return self._of(partner).release

    def fields(self, partner: str) -> frozenset[str] | None:
        """Names of the event's fields that the partner's templates (reads.py) and rows of the events can read; None: it may be any. The same object until a reload."""
        return self._of(partner).fields

    def table(self, name: str) -> CodeTable:
        """A code table with the site's rows, as the files are now. SettingsError where there is none, or a mistake in it."""
        pair = table_files(self._folder, self._site).get(name)
        if pair is None:
            raise SettingsError("there is no such code table", where=f"{self._folder / 'codes' / name}.yaml")
        return _table(pair)

    def identifier_systems(self, partner: str) -> CodeTable:
        """The table that tells the partner's identifiers."""
        return self._of(partner).tables[tables.identifier_table(partner, self._of(partner).tables)]

    def render(self, partner: str, context: Context) -> Rendered:
        """The resources of one message. Parked(MAPPING_FAILED | MAPPING_DEADLINE), `where` naming file and line.

        NotBuilt: the templates read more of the event than was built; never where `context.fields` is None.
        """
        compiled = self._of(partner)
        if not _built(context, compiled):
            raise NotBuilt
        rendering = begin(BUDGET, context.hl7)
        resources = _run(compiled.templates, compiled.environment, _names(context), rendering)
        if not rendering.findings:
            return Rendered(resources)
        findings = tuple(rendering.findings)
        if any(finding.hl7 is None for finding in findings):
            findings = self._traced(partner, compiled, context)[2]
        return Rendered(resources, findings)

    def trace(self, partner: str, context: Context) -> Mapping[str, str]:
        """FHIR path to HL7 place, of each element that comes from the message, and of what holds only such from one place.

        Paths are given from the resource (`Patient.name[0].family`; the first of its type) and from the bundle
        (`Bundle.entry[1].resource.name[0].family`, in the order of the rendered resources). Empty where the files have changed since
        the message was rendered and read more of it now: their places would be another mapping's.
        """
        compiled = self._of(partner)
        return self._traced(partner, compiled, context)[1] if _built(context, compiled) else {}

    def _traced(
        self, partner: str, compiled: Compiled, context: Context
    ) -> tuple[tuple[Resource, ...], dict[str, str], tuple[Finding, ...]]:
        with self._lock:
            kept = self._provenance.get(partner)
            if kept is None or kept[0] != compiled.version:
                provenance = Provenance()
                filters = {name: placing(filter_) for name, filter_ in filters_of(compiled.tables).items()}
                environment = MappingEnvironment(filters, provenance.finalize)
                kept = (compiled.version, provenance, _compile(environment, compiled.files)[0])
                self._provenance[partner] = kept
        _, provenance, templates = kept
        placed_hl7 = PlacedHl7(context.hl7)
        rendering = begin(BUDGET * 10, placed_hl7)
        provenance.begin()
        names = _names(replace(context, event=placed_event(context.event))) | {
            "hl7": placed_hl7,
            "identifiers": tuple(placed_identity(identity, context.event) for identity in context.identities),
        }
        resources = _run(templates, templates[0].environment, names, rendering)  # type: ignore[arg-type]  # ours
        cleaned, places = provenance.take(resources)
        return cleaned, places, tuple(rendering.findings)

    def _of(self, partner: str) -> Compiled:
        """What is in use; looks at the files where the last look is more than a second ago."""
        if time.monotonic() < self._look_at.get(partner, 0.0):
            return self._compiled[partner]
        with self._lock:
            return self._looked(partner)

    def _looked(self, partner: str) -> Compiled:
        current = self._compiled.get(partner)
        if current is None:
            files = files_of(self._folder, self._site, partner)
            current = self._compiled[partner] = _compiled(partner, files, _stamp(files))
        else:
            current = self._compiled[partner] = self._newer(partner, current)
        self._look_at[partner] = time.monotonic() + LOOK_AGAIN
        return current

    def _newer(self, partner: str, current: Compiled) -> Compiled:
        """What the files are now, where they have changed and compile; else what is in use."""
        stamp: tuple[tuple[str, int, int], ...] = ()
        try:
            files = files_of(self._folder, self._site, partner)
            stamp = _stamp(files)
            if stamp in (current.stamp, self._broken.get(partner)):
                return current
            newer = _compiled(partner, files, stamp)
        except (SettingsError, OSError) as mistake:
            if self._broken.get(partner) != stamp:
                self._broken[partner] = stamp
                said = str(mistake) if isinstance(mistake, SettingsError) else "a file cannot be read"
                log(LogEvent.MAPPING_NOT_RELOADED, partner=partner, version=current.version, mistake=said, do="emr-pipeline lint")
            return current
        log(LogEvent.MAPPING_RELOADED, partner=partner, version=newer.version)
        return newer


def files_of(folder: Path, site: Path | None, partner: str) -> Files:
    """Which files make a partner's output. SettingsError where the partner has no folder."""
    base = folder / partner
    mapping = base / "mapping.yaml"
    if not mapping.is_file():
        raise SettingsError(f"there is no {mapping.name}", where=str(base))
    own = {path.name: path for path in sorted(base.glob(f"*{SUFFIX}"))}
    theirs = {path.name: path for path in sorted((site / partner).glob(f"*{SUFFIX}"))} if site else {}
    site_events = site / "events.yaml" if site else None
    return Files(
        mapping=mapping,
        templates=own | theirs,
        tables=table_files(folder, site),
        events=(folder / "events.yaml", site_events if site_events is not None and site_events.is_file() else None),
    )


def table_files(folder: Path, site: Path | None) -> dict[str, tuple[Path | None, Path | None]]:
    """By name: a code table's base file and the site's."""
    base = {path.stem: path for path in sorted((folder / "codes").glob("*.yaml"))}
    theirs = {path.stem: path for path in sorted((site / "codes").glob("*.yaml"))} if site else {}
    return {name: (base.get(name), theirs.get(name)) for name in sorted({*base, *theirs})}


def _table(pair: tuple[Path | None, Path | None]) -> CodeTable:
    base, site = (tables.read(path) if path else None for path in pair)
    return tables.joined(base, site)


def order_of(mapping: Lined, path: Path, names: Mapping[str, Path]) -> tuple[str, ...]:
    """The templates that mapping.yaml lists, in order. YamlMistake where one is not there."""
    listed = mapping.get("templates")
    if not isinstance(listed, list) or not listed:
        raise YamlMistake(path, mapping.line_of("templates"), "templates must be a list of files")
    for name in listed:
        if name not in names:
            raise YamlMistake(path, mapping.line_of("templates"), f"there is no template file {name}")
    return tuple(listed)


def _stamp(files: Files) -> tuple[tuple[str, int, int], ...]:
    stamps = []
    for path in files.all():
        try:
            status = path.stat()
        except OSError:
            stamps.append((str(path), 0, -1))
        else:
            stamps.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(stamps)


def _compiled(partner: str, files: Files, stamp: tuple[tuple[str, int, int], ...]) -> Compiled:
    code_tables = {name: _table(pair) for name, pair in files.tables.items()}
    filters = filters_of(code_tables)
    environment: MappingEnvironment = BuildingEnvironment(filters)
    try:
        templates, fields = _compile(environment, files)
    except NotUnderstood:
        environment = MappingEnvironment(filters)
        templates, fields = _compile(environment, files)
    rules = events.rules(partner, *files.events)
    if fields is not None and rules.by_status:
        fields |= events.RESULT_FIELDS
    if fields is not None and rules.by_class:
        fields |= events.CLASS_FIELDS
    return Compiled(
        version=_version(files),
        release=_release(files.mapping),
        rules=rules,
        tables=code_tables,
        templates=templates,
        environment=environment,
        fields=fields,
        files=files,
        stamp=stamp,
    )


def _release(path: Path) -> Release:
    mapping = load(path)
    found = next((release for release in Release if release.name == mapping.get("fhir")), None)
    if found is None:
        raise YamlMistake(path, mapping.line_of("fhir"), f"fhir must be one of {', '.join(release.name for release in Release)}")
    return found


def _compile(environment: MappingEnvironment, files: Files) -> tuple[tuple[Template, ...], frozenset[str] | None]:
    """Every template file into the environment; those of the mapping, in order. Of the event, the fields that any of the files reads."""
    fields: frozenset[str] | None = frozenset()
    try:
        for name, path in files.templates.items():
            tree = environment.parse(path.read_text(encoding="utf-8"), name, str(path))
            read = fields_read(tree)
            fields = None if fields is None or read is None else fields | read
            code = environment.compile(tree, name, str(path))
            environment.loaded[name] = Template.from_code(environment, code, environment.globals)
    except TemplateSyntaxError as mistake:
        raise SettingsError(mistake.message or "is not a template", where=f"{mistake.filename}:{mistake.lineno}") from None
    except (OSError, UnicodeDecodeError):
        raise SettingsError("cannot be read as UTF-8", where=str(path)) from None
    return tuple(environment.loaded[name] for name in order_of(load(files.mapping), files.mapping, files.templates)), fields


def _version(files: Files) -> str:
    digest = hashlib.sha256(__version__.encode())
    for path in files.all():
        content = path.read_bytes()
        digest.update(f"\n{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _built(context: Context, compiled: Compiled) -> bool:
    """Whether the event was built with all that the templates read. Mostly it is the very same set, of the same compiled mapping."""
    there, read = context.fields, compiled.fields
    return there is read or there is None or (read is not None and read <= there)


SHORT: Final = ("patient", "visit", "diagnoses", "coverages", "reports", "appointment")
"""Parts of the event that templates name without `event.` before them."""


def _names(context: Context) -> dict[str, Any]:
    members = context.event.__dict__  # what was not built is not there (hl7/parts.py), and no template names it
    return {
        **{name: members[name] for name in SHORT if name in members},
        "event": context.event,
        "hl7": context.hl7,
        "intent": context.intent,
        "identifiers": context.identities,
        "partner": dict(context.partner),
        "site": context.site,
        "range": capped_range,
    }


SILENT: Final = (Mistake, UndefinedError)
"""Failures whose words are ours and hold no value; of any other only its type is told."""


def _run(
    templates: tuple[Template, ...], environment: MappingEnvironment, names: dict[str, Any], rendering: Rendering
) -> tuple[Resource, ...]:
    """Render each template. Whatever goes wrong is the mapping's fault, and is told without the values that it met."""
    rendered: list[list[Any]] = []
    try:
        context = MappingContext(environment, Names(names), environment.evaluation)
        for template in templates:
            rendered.append(list(template.root_render_func(context)))
            rendering.depth = 0
        tick()
        return environment.resources_of(rendered)
    except (Overrun, RecursionError, MemoryError) as stop:
        raise Parked(Reason.MAPPING_DEADLINE, where=_where(stop, template)) from None
    except NotResources as failure:
        where, said = str(templates[failure.template].name), str(failure)
    except Exception as failure:  # noqa: BLE001 - a template can raise anything; each parks the message, with file and line
        where = _where(failure, template)
        said = str(failure) if isinstance(failure, SILENT) else type(failure).__name__
    raise Parked(Reason.MAPPING_FAILED, where=where, message=f"{Reason.MAPPING_FAILED.sentence}: {said}")


def _where(failure: BaseException, template: Template) -> str:
    """File and line in the template where it went wrong; the file alone where it went wrong after rendering."""
    where = str(template.name)
    traceback = failure.__traceback__
    while traceback is not None:
        inside = traceback.tb_frame.f_globals.get("__jinja_template__")
        if inside is not None:
            where = f"{inside.name}:{inside.get_corresponding_lineno(traceback.tb_lineno)}"
        traceback = traceback.tb_next
    return where
