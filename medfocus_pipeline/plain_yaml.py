"""YAML without what can do harm: no aliases, and neither size nor depth without end."""

from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader, ten times as fast, where PyYAML was built with it."""

MAX_CHARACTERS = 2**20
MAX_DEPTH = 32


def load(text: str) -> Any:
    """What a text says.

    Raises:
        yaml.YAMLError: it is not YAML, or `check` refuses it.
    """
    check(text)
    try:
        return yaml.load(text, Loader=LOADER)  # noqa: S506 (it is a safe one)
    except (ValueError, OverflowError) as error:  # a date or a number that there is not
        raise yaml.YAMLError(str(error)) from error


def check(text: str) -> None:
    """Refuse what would take memory or the stack, before anything is built.

    Raises:
        yaml.YAMLError: the text is too long or too deep, has an alias, or is not YAML.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"it has {len(text):,} characters, at most {MAX_CHARACTERS:,}")
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = f"the alias *{event.anchor} is not followed; write it out"
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            problem = f"it is nested more than {MAX_DEPTH} deep"
        if problem:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
