"""The sandboxed Jinja environment of the mapping templates: what compiles, what a template may touch, how long it may take.

Closed by construction: only the fields of the event model can be read, only macros, `hl7` and `range` can be called, only our own
filters exist. Absent values answer every field with absent; a field that no model has is an error. No I/O here.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.nodes import EvalContext
from jinja2.runtime import Context as JinjaContext
from jinja2.runtime import Macro
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing

from pipeline.model import Finding, Hl7, Resource
from pipeline.templates.fields import field, type_named
from pipeline.templates.quotes import check_quotes, minified
from pipeline.templates.text import ABSENT, Constant, Constants, Fragment, constant_of, resources_of, text_of, typed_of
from schemas.event import NULL, Null

MOST_RANGE: Final = 1_000
MOST_DEPTH: Final = 30
MOST_TEXT: Final = 100_000
"""Characters that one `~` may make."""


class Mistake(Exception):
    """The template does what no template may; the message is ours and carries no value."""


class Overrun(Exception):
    """The template took too long, went too deep or made too much."""


@dataclass(slots=True)
class Rendering:
    """What one rendering keeps while it runs: its end, its depth, its findings."""

    until: float
    until_cpu: float | None
    """Of this thread's processor time; known once the wall clock has run out."""
    depth: int
    findings: list[Finding]
    budget: float
    hl7: Hl7 | None = None
    """What may be called as hl7(…)."""


class _Now(threading.local):
    rendering: Rendering = Rendering(0.0, None, 0, [], 0.0)


now: Final = _Now()
"""The rendering of this thread."""


def begin(budget: float, hl7: Hl7 | None = None) -> Rendering:
    """Start the clock of a rendering; seconds."""
    now.rendering = Rendering(perf_counter() + budget, None, 0, [], budget, hl7)
    return now.rendering


def tick() -> None:
    """Look at the deadline.

    The wall clock is asked first since it is cheap. What counts once it has run out is another budget of this thread's own processor time, so
    that a machine that was busy, or asleep, parks nobody.
    """
    rendering = now.rendering
    if perf_counter() > rendering.until:
        if rendering.until_cpu is None:
            rendering.until_cpu = time.thread_time() + rendering.budget
        if time.thread_time() > rendering.until_cpu:
            raise Overrun
        rendering.until = perf_counter() + rendering.budget


def finalize(value: object) -> str:
    """What `{{ … }}` emits: always JSON. Absent, empty and explicit null are JSON's null, which vanishes after parsing."""
    if perf_counter() > now.rendering.until:
        tick()
    if type(value) is str:
        return text_of(value)
    if value is None or value is NULL:
        return ABSENT
    emitter = EMITTERS.get(type(value))
    if emitter is not None:
        return emitter(value)
    if isinstance(value, Undefined):
        str(value)  # StrictUndefined says what is wrong
    if isinstance(value, str):
        return text_of(str(value))
    raise Mistake(f"{{{{ }}}} of {type_named(value)}: name one of its fields")


def _empty_list(value: Any) -> str:  # noqa: ANN401 - a list, a tuple
    if value:
        raise Mistake("{{ }} of a list: go through it with for, or take its first")
    return ABSENT


EMITTERS: Final[dict[type, Callable[[Any], str]]] = {
    Fragment: lambda fragment: fragment or ABSENT,
    Constant: constant_of,
    bool: typed_of,
    int: typed_of,
    float: typed_of,
    tuple: _empty_list,
    list: _empty_list,
}


def each(values: Iterable[Any] | Null | None) -> Iterable[Any]:
    """What a `for` goes through: nothing where it is absent. The deadline is looked at before each loop, and in each turn of it."""
    tick()
    if isinstance(values, tuple | list | range):
        return values
    if values is None or values is NULL:
        return ()
    raise Mistake(f"for over {type_named(values)}: only lists can be gone through")


def joined(*parts: Any) -> str | Null | None:  # noqa: ANN401 - whatever a template hands in
    """`a ~ b`: absent where a part is absent, so that no half of a text goes out."""
    if any(isinstance(part, Fragment | Undefined) or not isinstance(part, str | int | float | Null | None) for part in parts):
        raise Mistake("~ joins texts only")
    if any(part is None or part is NULL or part == "" for part in parts):
        return None
    text = "".join(str(part) for part in parts)
    if len(text) > MOST_TEXT:
        raise Overrun
    return text


def capped_range(*bounds: int) -> range:
    """`range`, of at most MOST_RANGE numbers."""
    numbers = range(*bounds)
    if len(numbers) > MOST_RANGE:
        raise Overrun
    return numbers


FORBIDDEN: Final[Mapping[type[nodes.Node], str]] = {
    nodes.Include: "include is not for templates: import a macro",
    nodes.Extends: "extends is not for templates: a site overlay replaces a whole file",
    nodes.Block: "block is not for templates",
    nodes.CallBlock: "call blocks are not for templates: call the macro in {{ }}",
    nodes.FilterBlock: "filter blocks are not for templates: use | in {{ }}",
    nodes.AssignBlock: "a set with a block makes text: use {% set name = … %}, or a macro",
    nodes.Import: 'import a macro by its name: {% from "file" import NAME %}',
    nodes.NSRef: "namespaces are not for templates",
}


class Names(dict[str, Any]):
    """What templates can name; Jinja knows `missing` for anything else."""

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - Jinja's own mark
        return missing


class MappingContext(JinjaContext):
    """What templates are rendered with: Jinja's context without what blocks and asynchronous templates need. Nothing is looked up in `vars`."""

    def __init__(self, environment: "MappingEnvironment", parent: "Names", shared: EvalContext) -> None:
        self.parent = parent
        self.resolve_or_missing = parent.__getitem__  # type: ignore[assignment,method-assign]  # each name of each template goes through it
        self.vars = {}
        self.environment = environment
        self.eval_ctx = shared
        self.exported_vars = set()
        self.name = None
        self.globals_keys = set()
        self.blocks = {}


class MappingCode(CodeGenerator):
    """What Jinja writes for a template, with `finalize` alone around what is emitted: it gives a text, and `str` of it costs a call."""

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:  # noqa: ARG002 - Jinja's signature
        self.write("environment.finalize(")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:  # noqa: ARG002 - Jinja's signature
        self.write(")")

    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802 - Jinja's name
        """What the generated code names of this module, too."""
        self.writeline("from pipeline.templates.fields import MODELS, field")
        self.writeline("from pipeline.templates.text import Fragment")
        super().visit_Template(node, frame)

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        """`a.b`, without the way through the environment's method; where `a` is a name and holds a model, without a call: a message has forty."""
        if isinstance(node.node, nodes.Name) and node.node.ctx == "load":
            name = frame.symbols.ref(node.node.name)
            self.write(f"({name}.__dict__[{node.attr!r}] if type({name}) in MODELS and {node.attr!r} in {name}.__dict__ else ")
        else:
            self.write("(")
        self.write("field(")
        self.visit(node.node, frame)
        self.write(f", {node.attr!r}))")

    def return_buffer_contents(self, frame: Frame, force_unescaped: bool = False) -> None:  # noqa: ARG002 - Jinja's signature
        """The end of a macro."""
        self.writeline(f"return Fragment(concat({frame.buffer}).strip())")


class MappingEnvironment(SandboxedEnvironment):
    """See the module. `templates` is filled by the catalogue before anything is rendered."""

    code_generator_class = MappingCode
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self, filters: Mapping[str, Callable[..., Any]], final: Callable[[Any], str] = finalize) -> None:
        super().__init__(undefined=StrictUndefined, finalize=final, cache_size=0, auto_reload=False, autoescape=False)
        self.filters = {**filters, "_each": each, "_joined": joined}
        self.tests = {name: self.tests[name] for name in ("==", "eq", "!=", "ne", "in", "odd", "even", "divisibleby")}
        self.tests |= {"absent": lambda value: value is None or value == "", "deleted": lambda value: value is NULL}
        self.globals = {"range": capped_range}
        self.constants = Constants()
        self.evaluation = EvalContext(self)
        self.loaded: dict[str, Any] = {}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        check_quotes(self, source, name, filename)
        for kind, why in FORBIDDEN.items():
            for node in tree.find_all(kind):
                raise TemplateSyntaxError(why, node.lineno, name, filename)
        _rewrite(tree)
        return tree

    def get_template(self, name: Any, parent: str | None = None, globals: Any = None) -> Any:  # noqa: A002, ANN401, ARG002 - Jinja's signature
        """An import; the catalogue has compiled every file already."""
        try:
            return self.loaded[name]
        except KeyError:
            raise Mistake(f"there is no template file {name}") from None

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 - Jinja's signature
        """See `field`."""
        return field(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401 - Jinja's signature
        """An item of a list by its number; absent where the list is shorter."""
        if isinstance(argument, str):
            return self.getattr(obj, argument)
        if obj is None or obj is NULL:
            return obj
        if isinstance(obj, tuple | list) and isinstance(argument, int):
            return obj[argument] if -len(obj) <= argument < len(obj) else None
        return self.undefined(f"[{argument}] is for lists")

    def call(self, context: JinjaContext, obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, ARG002, D102 - Jinja's signature
        if kwargs:
            kwargs.pop("_loop_vars", None)  # Jinja hands them to callables that ask for the context; ours do not
            kwargs.pop("_block_vars", None)
        if type(obj) is Macro:
            rendering = now.rendering
            rendering.depth += 1
            if rendering.depth > MOST_DEPTH:
                raise Overrun
            if perf_counter() > rendering.until:
                tick()
            plain = not kwargs and len(args) == len(obj.arguments) and not obj.caller
            called: Callable[..., Any] = obj._func if plain else obj  # noqa: SLF001 - what Macro.__call__ ends in when every argument stands at its place
            made = called(*args, **kwargs)
            rendering.depth -= 1
            return made
        if obj is capped_range:
            return capped_range(*args, **kwargs)
        if obj is now.rendering.hl7 and obj is not None:
            return now.rendering.hl7(*args, **kwargs)
        if isinstance(obj, Undefined):
            str(obj)
        raise Mistake("only macros, hl7() and range() can be called")

    def resources_of(self, rendered: Sequence[Sequence[Any]]) -> tuple[Resource, ...]:
        """The resources, of what each template gave. NotResources."""
        return resources_of(["".join(pieces) for pieces in rendered])

    def call_binop(self, context: JinjaContext, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401, D102 - Jinja's signature
        if type(left) not in NUMBERS or type(right) not in NUMBERS or operator == "**":
            raise Mistake(f"{operator} is for numbers; texts are joined with ~")
        return super().call_binop(context, operator, left, right)


NUMBERS: Final = frozenset({int, float})


def _rewrite(tree: nodes.Template) -> None:
    """Loops go through `each`, `~` through `joined`, texts are known as constants, and the JSON between the expressions loses its blanks."""
    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, "_each", [], [], None, None, lineno=loop.lineno)
    _know_constants(tree)
    for data in tree.find_all(nodes.TemplateData):
        data.data = minified(data.data)
    _replace_concat(tree)


def _know_constants(node: nodes.Node) -> None:
    """Texts that can reach the output; those that only compare, name a table or a file stay plain."""
    if isinstance(node, nodes.Compare | nodes.Import | nodes.FromImport | nodes.Test):
        return
    if isinstance(node, nodes.Const) and type(node.value) is str:
        node.value = Constant(node.value)
    for child in [node.node] if isinstance(node, nodes.Filter) and node.node is not None else node.iter_child_nodes():
        _know_constants(child)


def _replace_concat(node: nodes.Node) -> None:
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Concat):
            setattr(node, name, _joined(value))
        elif isinstance(value, list):
            setattr(node, name, [_joined(item) if isinstance(item, nodes.Concat) else item for item in value])
    for child in node.iter_child_nodes():
        _replace_concat(child)


def _joined(node: nodes.Concat) -> nodes.Filter:
    first, *others = node.nodes
    return nodes.Filter(first, "_joined", others, [], None, None, lineno=node.lineno)
