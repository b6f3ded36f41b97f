"""Has mkdocstrings render docstrings, which are plain text, as pages of a site.

Names of the API in a docstring become links, an indented block a program. Options that are passed
on, types that have a private name, and defaults that are constants are spelled out.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial

from griffe import (
    Alias,
    Attribute,
    Class,
    Docstring,
    DocstringSectionParameters,
    Expr,
    ExprName,
    ExprSubscript,
    Extension,
    Function,
    Module,
    Object,
    Parameter,
    ParameterKind,
)

PACKAGES = (
    "aiorsmq",
    "aiorsmq.doctor",
    "aiorsmq.integrations.aiohttp",
    "aiorsmq.integrations.django",
    "aiorsmq.integrations.fastapi",
    "aiorsmq.integrations.service",
    "aiorsmq.integrations.shutdown",
    "aiorsmq.integrations.starlette",
    "aiorsmq.pyrsmq",
    "aiorsmq.sync",
    "aiorsmq.testing",
    "aiorsmq.testing.sync",
)
"""What users import from."""
INTERNAL = {
    "aiorsmq.Announcements": {"end"},
    "aiorsmq.Confirm": {"command", "count", "goal", "name", "trial"},
    "aiorsmq.EmbeddedServer": {"socket"},
    "aiorsmq.ExportHeader": {"from_fields", "line"},
    "aiorsmq.Import": {"LINES_PER_STEP"},
    "aiorsmq.Messages": {"end"},
    "aiorsmq.NotConfirmed": {"repeat"},
    "aiorsmq.Receipt": {"fence"},
    "aiorsmq.sync.NotConfirmed": {"repeat"},
}
"""Members without an underscore that other modules of the package use, and nobody else needs."""
ALIASES = {"Death", "SettingValue", "Start", "WhenDead"}
"""Types that have no public name."""

CONSTANTS = {"BYTES", "JSON", "TEXT"}
"""Constants that users know by their names."""

CODE = re.compile(r"(?<!\[)`([A-Za-z_][\w.]*)(\(\))?`(?!\])")
BARE = re.compile(r"(?<![\w.`\[/\"'])([A-Z]\w*[a-z]\w*[A-Z]\w*|RSMQ\b)(?![\w`\]/=(\"'])")
"""A name in CamelCase without backticks."""
SECTION = re.compile(r"(?:Args|Attributes):$")
BRANCHES = ("├", "└")
"""With these the lines of a tree begin."""


class PlainText(Extension):
    """What griffe calls when it has read the package."""

    def on_package(self, *, pkg: Module, **_: object) -> None:
        if pkg.path != "aiorsmq":
            return
        spell_out_options(pkg)
        names = {package: dict(public_names(pkg, package)) for package in PACKAGES}
        for member in walk(pkg):
            spell_out_types(member)
            if isinstance(member, Class):
                hand_down_attributes(member)
            if member.docstring is not None:
                link = partial(link_names, member, names)
                member.docstring.value = "\n".join(as_markdown(member.docstring.value, link))
        complete_worker(pkg)
        uncover_functions(pkg)


def walk(member: Object) -> Iterator[Object]:
    yield member
    for child in list(member.members.values()):
        if not child.is_alias:
            yield from walk(child)


# Names and links


def public_names(pkg: Module, package: str) -> Iterator[tuple[str, str]]:
    """What docstrings call the public names of a package and their members, with their paths."""
    module = pkg.modules_collection[package]
    source = module.members.get("_public", module)
    for name in map(str, source.exports or functions_and_classes(source)):
        path = f"{package}.{name}"
        yield name, path
        target = pkg.modules_collection[f"{source.path}.{name}"]
        if isinstance(target, Alias):
            target = target.final_target
        if isinstance(target, Class):
            for member in target.all_members:
                if not member.startswith("_") and member not in INTERNAL.get(path, ()):
                    yield f"{name}.{member}", f"{path}.{member}"


def functions_and_classes(module: Module) -> list[str]:
    return [
        name
        for name, member in module.members.items()
        if not name.startswith("_") and isinstance(member, Class | Function)
    ]


def as_markdown(text: str, link: Callable[[str], str]) -> Iterator[str]:
    """The lines of a docstring, with links, and with fences around programs and trees."""
    in_section = False
    fence = ""
    previous = ""
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        is_indented = line.startswith("    ")
        if line and not is_indented:
            in_section = SECTION.match(line) is not None
        is_program = is_indented and not in_section
        is_tree = line.startswith(BRANCHES) or following.startswith(BRANCHES[0])
        if not fence and ((is_program and not previous) or is_tree):
            fence = "python" if is_program else "text"
            yield f"```{fence}"
        elif fence and line and not is_program and not is_tree:
            fence = ""
            yield from ("```", "")
        if fence:
            yield line.removeprefix("    ") if is_program else line
        else:
            yield link(line)
        previous = line
    if fence:
        yield "```"


def link_names(member: Object, names: dict[str, dict[str, str]], line: str) -> str:
    """A line of a member's docstring, with links to what it names."""
    owner = member if member.is_class else member.parent
    parameters = {parameter.name for parameter in getattr(member, "parameters", ())}
    packages = [name for name in PACKAGES if f"{member.path}.".startswith(f"{name}.")]

    def path_of(name: str) -> str | None:
        for package in reversed(packages):  # the innermost first
            if name in names[package]:
                return names[package][name]
        everywhere = [known for known in names.values() if name in known]
        if name.istitle() and len(everywhere) == 1:  # imported from another package of ours
            return everywhere[0][name]
        is_path = any(name in known.values() for known in names.values())
        return name if is_path else None

    def path_of_code(name: str) -> str | None:
        if owner is None or not owner.is_class or name in parameters:
            return path_of(name)
        if name in owner.all_members:
            return path_of(f"{owner.name}.{name}") if name != member.name else None
        return path_of(name)

    def link_code(found: re.Match[str]) -> str:
        path = path_of_code(found[1])
        return f"[{found[0]}][{path}]" if path else found[0]

    def link_bare(found: re.Match[str]) -> str:
        path = path_of(found[0])
        is_itself = owner is not None and found[0] == owner.name
        return f"[`{found[0]}`][{path}]" if path and not is_itself else found[0]

    parts = re.split("(`[^`]*`)", line)
    texts = [part if part.startswith("`") else BARE.sub(link_bare, part) for part in parts]
    return CODE.sub(link_code, "".join(texts))


def hand_down_attributes(cls: Class) -> None:
    """Move the section `Attributes:` of a class's docstring to the attributes."""
    text = cls.docstring.value if cls.docstring is not None else ""
    found = re.search(r"\n+Attributes:\n((?:    .*\n?|\n)+)", text)
    if found is None:
        return
    cls.docstring.value = text.replace(found[0], "\n\n").strip()
    for name, words in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", found[1], re.MULTILINE):
        attribute = cls.members.get(name)
        if attribute is None:  # a private base class has it
            attribute = Attribute(name, annotation="str", parent=cls)
            cls.set_member(name, attribute)
        sentence = re.sub(r"\s+", " ", words)
        attribute.docstring = Docstring(sentence[0].upper() + sentence[1:], parent=attribute)


# Signatures


def spell_out_options(pkg: Module) -> None:
    """Replace `**options: Unpack[SomeOptions]` by the options, with a worker's defaults."""
    collection = pkg.modules_collection
    defaults = {p.name: p.default for p in collection["aiorsmq.worker.Worker"].parameters}
    functions = [member for member in walk(pkg) if isinstance(member, Function)]
    for function in functions:
        for parameter in list(function.parameters):
            found = re.fullmatch(r"Unpack\[(\w+)\]", str(parameter.annotation))
            if found is None:
                continue
            options = collection[function.module.resolve(found[1])]
            if isinstance(options, Alias):
                options = options.final_target
            del function.parameters[parameter.name]
            for option in options.attributes.values():
                spelled_out = Parameter(
                    option.name,
                    annotation=option.annotation,
                    kind=ParameterKind.keyword_only,
                    default=defaults.get(option.name, "None"),
                )
                function.parameters.add(spelled_out)


def spell_out_types(member: Object) -> None:
    if isinstance(member, Attribute):
        if member.annotation is None and member.parent.is_class:  # assigned in `__init__`
            parameters = {parameter.name: parameter for parameter in member.parent.parameters}
            member.annotation = getattr(parameters.get(member.name), "annotation", None)
        cast = re.match(r"cast\(.(\w+)", str(member.value))
        member.annotation = cast[1] if cast else type_of(member.annotation)
    elif isinstance(member, Function):
        member.returns = type_of(member.returns)
        for parameter in member.parameters:
            parameter.annotation = type_of(parameter.annotation)
            parameter.default = value_of(parameter.default)


def type_of(expression: object) -> object:
    """An annotation without types that have no public name."""
    if isinstance(expression, list):
        return [*map(type_of, expression)]
    if isinstance(expression, ExprName) and expression.name in ALIASES:
        return expression.resolved.value
    if isinstance(expression, ExprSubscript) and str(expression.left) == "Final":
        return type_of(expression.slice)
    if isinstance(expression, Expr):
        for part in fields(expression):
            if part.name != "parent":
                setattr(expression, part.name, type_of(getattr(expression, part.name)))
    return expression


def value_of(default: object) -> object:
    """A default that is the name of a constant, as its value; "..." for another name."""
    if not isinstance(default, ExprName) or default.name in CONSTANTS:
        return default
    constant = default.resolved
    if isinstance(constant, Alias):
        constant = constant.final_target
    is_constant = isinstance(constant, Attribute) and constant.parent.is_module
    return constant.value if is_constant else "..."


def complete_worker(pkg: Module) -> None:
    """Give the options in the docstring of Worker their types and defaults. Users make one by
    `Queue.worker`.
    """
    options = {p.name: p for p in pkg.modules_collection["aiorsmq.queue.Queue.worker"].parameters}
    docstring = pkg.modules_collection["aiorsmq.worker.Worker"].docstring
    for section in docstring.parsed:
        if isinstance(section, DocstringSectionParameters):
            for option in section.value:
                option.annotation = options[option.name].annotation
                option.value = options[option.name].default


def uncover_functions(pkg: Module) -> None:
    """Let `aiorsmq.doctor.examine` be the function, as in Python, not the module of that name."""
    for package in PACKAGES:
        module = pkg.modules_collection[package]
        for name in map(str, module.exports or ()):
            submodule = module.members.get(name)
            if isinstance(submodule, Module):
                module.members[name] = Alias(name, submodule.members[name], parent=module)
