"""Every error that a user can see: what it is about, and what to do about it.

All calls of MedFocus's own errors are found in the source. Their texts are read with the constants
of their modules in place; everything else that is formatted in stands as ``{expression}``.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import medfocus_pipeline
from medfocus_pipeline import errors

LIBRARY = Path(medfocus_pipeline.__file__).parent

OURS = {
    name
    for name, one in vars(errors).items()
    if isinstance(one, type) and issubclass(one, errors.MedFocusError)
} | {"DivergedError"}

_VERBS = (
    *("add", "annotate", "ask", "check", "choose", "copy", "delete", "embed", "export"),
    *("free", "give", "install", "leave", "make", "mend", "name", "pass", "point", "pull", "put"),
    *("remove", "repeat", "run", "save", "say", "scale", "search", "see", "show", "start", "take"),
    *("train", "try", "use", "wait", "write"),
)
_REMEDY = re.compile(
    rf"\b({'|'.join(_VERBS)})\b"  # a thing to do
    r"|\bfit (it|them)\b|--[a-z]|`[^`]+`|\bmake [a-z]|\bmedfocus [a-z]"  # or to type
    r"|\bexpected\b|\bknown\b|\bthose that do\b",  # or what would be right
    re.IGNORECASE,
)
_GIVEN = ("{remedy}", "{self.remedy}")
"""What callers hand over to say what to do."""

PARTS = {
    "ImageError": "the end of a sentence that begins with the file's name, and stands in a list of "
    "files that were left out: the file is what has to be mended",
    "DamagedError": "the beginning of a sentence that whoever reads the file ends: with what makes "
    "it again, or with `medfocus cache verify --repair`",
}
"""Kinds of which some texts are parts of a sentence, and of which."""

LISTS = {
    ("datasets/checked_yaml.py", "{kind} {path} has"): "each line says what was expected of it",
    ("commands/options.py", "These options do not fit"): "each line says what was expected of it",
    ("datasets/listing.py", "{problems_of(path, problems)}"): "each line says to keep one label",
    ("project/project.py", "{str(error)}"): "FeaturePart.parse says what was expected",
    ("sam/sam2.py", "{_mismatch("): "it ends with `Set size to the checkpoint's own`",
}
"""Texts that are put together elsewhere: file and beginning -> what there says it."""


@dataclass(frozen=True)
class Raised:
    """One call of an error.

    Attributes:
        place: file and line.
        text: with constants in place.
    """

    place: str
    kind: str
    text: str

    @property
    def is_list(self) -> bool:
        return any(
            self.place.startswith(f"{file}:") and self.text.startswith(begins)
            for file, begins in LISTS
        )


def written(node: ast.expr, known: Mapping[str, str]) -> str:
    """The text of an expression; what is not written there stands in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        name = ast.unparse(node.value)
        return known.get(name, "{" + name + "}")
    if isinstance(node, ast.BinOp):
        return written(node.left, known) + written(node.right, known)
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    return "{" + ast.unparse(node) + "}"


def constants(tree: ast.Module) -> dict[str, str]:
    """Module level strings by name."""
    found: dict[str, str] = {}
    for name, value in assigned(tree.body):
        if isinstance(value, ast.Constant | ast.JoinedStr | ast.BinOp):
            found[name] = written(value, found)
    return found


def local_texts(function: ast.FunctionDef) -> dict[str, str]:
    """Texts that local names are given, all of a name joined: it is one of them."""
    found: dict[str, str] = {}
    for name, value in assigned(ast.walk(function)):
        texts = [
            written(one, {})
            for one in ast.walk(value)
            if isinstance(one, ast.JoinedStr)
            or (isinstance(one, ast.Constant) and isinstance(one.value, str))
        ]
        found[name] = " ".join([found.get(name, ""), *texts])
    return found


def assigned(nodes: object) -> Iterator[tuple[str, ast.expr]]:
    """Name and value of the assignments among some nodes."""
    assert isinstance(nodes, list | Iterator)
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def imported(tree: ast.Module, shared: Mapping[str, str]) -> dict[str, str]:
    """Constants of other modules, by the names that they have in this one."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                text = shared.get(f"{node.module}.{one.name}")
                if text is not None:
                    found[one.name] = text
    return found


def raised() -> Iterator[Raised]:
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted(LIBRARY.rglob("*.py"))}
    shared = {
        f"{'.'.join(path.relative_to(LIBRARY.parent).with_suffix('').parts)}.{name}": text
        for path, tree in trees.items()
        for name, text in constants(tree).items()
    }
    for path, tree in trees.items():
        own = {**imported(tree, shared), **constants(tree)}
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                yield from in_function(function, own, path.relative_to(LIBRARY).as_posix())


def in_function(function: ast.FunctionDef, own: Mapping[str, str], file: str) -> Iterator[Raised]:
    known = {**own, **local_texts(function)}
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in OURS
            and node.args
        ):
            yield Raised(f"{file}:{node.lineno}", node.func.id, written(node.args[0], known))


ALL = list(raised())


def remedy_in(text: str) -> bool:
    """Whether a text has a remedy, apart from what is formatted in."""
    plain = re.sub(r"\{[^{}]*\}", "…", text)
    return bool(_REMEDY.search(plain)) or any(one in text for one in _GIVEN)


def test_every_message_says_what_to_do() -> None:
    assert len(ALL) > 250, "errors are not found any more"
    whole = [one for one in ALL if one.kind not in PARTS and not one.is_list]
    assert [f"{one.place} {one.text}" for one in whole if not remedy_in(one.text)] == []


def test_no_message_is_a_bare_word() -> None:
    whole = [one for one in ALL if one.kind not in PARTS and not one.is_list]
    assert [one.place for one in whole if len(re.findall(r"\w+", one.text)) < 6] == []


@pytest.mark.parametrize(("file", "begins"), LISTS)
def test_every_exception_is_needed(file: str, begins: str) -> None:
    found = [one for one in ALL if one.is_list and one.place.startswith(f"{file}:")]
    assert any(one.text.startswith(begins) and not remedy_in(one.text) for one in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The weights of {name} cannot be found.", False),
        ("{path} cannot be read: {name(error)}.", False),
        ("There is no row {name}. Known rows: {rows}.", True),
        ("{folder} is empty. Name another with --out.", True),
        ("Checkpoint {path} is damaged. {remedy}", True),
    ],
)
def test_a_remedy_is_told_from_a_complaint(text: str, expected: bool) -> None:
    assert remedy_in(text) == expected
