"""YAML files checked against a pydantic model: all problems at once, each with its place."""

from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from medfocus_pipeline import plain_yaml
from medfocus_pipeline.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

_Keys: TypeAlias = tuple[str, ...]


def load_checked(path: Path, model: type[M], *, kind: str) -> M:
    """Read a YAML file into a pydantic model.

    Args:
        path: the file, UTF-8.
        model: the model of its top-level mapping.
        kind: what the file is, for the message ("Card").

    Raises:
        ConfigError: the file cannot be read, is not YAML, repeats a key or does not fit the
            model; one line for every problem, with its line number and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = plain_yaml.load(text)
        tree = yaml.compose(text, Loader=plain_yaml.LOADER)
    except OSError as error:
        raise ConfigError(
            f"{kind} {path} cannot be read: {error.strerror}. See to the right to read it, or "
            "name another."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{kind} {path} is not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(
            f"{kind} {path} is not YAML: line {line}: {error.problem}. Mend that line."
        ) from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{kind} {path} is not YAML: {reason}. Mend it.") from error
    lines: dict[_Keys, int] = {(): 1}
    problems = [] if tree is None else _index(tree, (), lines)
    try:
        checked = model.model_validate(data)
    except ValidationError as error:
        problems += [_problem(detail, lines) for detail in error.errors(include_url=False)]
    if problems:
        listed = "\n".join(f"  line {n}: {text}" for n, text in sorted(set(problems)))
        count = f"{len(set(problems))} problem{'s' if len(set(problems)) > 1 else ''}"
        raise ConfigError(f"{kind} {path} has {count}:\n{listed}")
    return checked


def _index(node: yaml.Node, keys: _Keys, lines: dict[_Keys, int]) -> list[tuple[int, str]]:
    """Record the line of every key below a node; return the keys that stand there twice."""
    repeated: list[tuple[int, str]] = []
    if isinstance(node, yaml.MappingNode):
        here: dict[_Keys, int] = {}
        for key, value in node.value:
            place, line = (*keys, str(key.value)), key.start_mark.line + 1
            if place in here:
                repeated.append((line, f"{'.'.join(place)}: repeats line {here[place]}"))
            here.setdefault(place, line)
            lines[place] = line
            repeated += _index(value, place, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            place = (*keys, str(number))
            lines[place] = value.start_mark.line + 1
            repeated += _index(value, place, lines)
    return repeated


def _problem(detail: Any, lines: dict[_Keys, int]) -> tuple[int, str]:
    """Line and text of one pydantic error; a missing key gets the line of its mapping."""
    keys = tuple(str(part) for part in detail["loc"])
    known = next(keys[:n] for n in range(len(keys), -1, -1) if keys[:n] in lines)
    text = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        text = "is missing"
    elif detail["type"] == "extra_forbidden":
        text = "is not a known key"
    elif not isinstance(detail["input"], dict | list | tuple) and detail["type"] != "value_error":
        text += f", got {detail['input']!r:.40}"
    return lines[known], f"{'.'.join(keys) or 'the file'}: {text}"
