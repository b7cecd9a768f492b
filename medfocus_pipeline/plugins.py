"""Plug-ins: importing what another package brings, and saying what is wrong with it.

docs/extending.md is the contract. What a plug-in raises while it runs is its own and is not caught.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from medfocus_pipeline.config import PluginConfig
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights, local_weights

_GUIDE = "see docs/extending.md"

_IMPORTING = (ImportError, SyntaxError, NameError, AttributeError, OSError, ValueError, TypeError)
"""What the import of a module that is not ours ends in, as far as it can be told."""


def factory(config: PluginConfig) -> Any:
    """The object that a plug-in's name stands for, with a `version`.

    Raises:
        ConfigError: it cannot be imported, is not callable, or says no version.
    """
    module, sign, attribute = config.name.partition(":")
    if not sign or not module or not attribute:
        raise ConfigError(
            f"Plug-in {config.name!r}: expected package.module:Factory, e.g. mylab.encoders:Tiny."
        )
    try:
        found = import_module(module)
    except _IMPORTING as error:
        raise ConfigError(
            f"Plug-in {config.name} cannot be imported: {type(error).__name__}: {error}. Install "
            "its package into this environment, or add its folder to PYTHONPATH."
        ) from error
    made = getattr(found, attribute, None)
    if not callable(made):
        public = [name for name, one in vars(found).items() if callable(one) and name[0] != "_"]
        raise ConfigError(
            f"Plug-in {config.name}: {module} has no callable {attribute}. It has: "
            f"{', '.join(sorted(public)) or 'none'}. Name one of these."
        )
    version = getattr(made, "version", None)
    if not isinstance(version, str) or not version:
        raise ConfigError(
            f"Plug-in {config.name}: got version {version!r}, expected a text that changes "
            f'whenever its numbers do. Write in {attribute}: version = "1" ({_GUIDE}).'
        )
    return made


def plugin_name(config: PluginConfig) -> str:
    """``package.module:Factory``: the identity of what it makes, and its label."""
    return config.name


def find_plugin(
    config: PluginConfig,
    hashes: FileHashes,
    *,
    download: bool,  # noqa: ARG001  (a plug-in's files are its own affair)
) -> Weights:
    """A plug-in's identity: its name, its version, and the hashes of the files that it names.

    Raises:
        ConfigError: it cannot be imported, or `files` does not take its options.
        WeightsError: a file that it names is missing or unreadable.
    """
    made = factory(config)
    paths: dict[str, Path] = {}
    if hasattr(made, "files"):
        named = _called(config, made.files, {})
        paths = {Path(path).name: Path(path).expanduser() for path in named}
    own = local_weights(config.name, paths, hashes=hashes)
    files = {"version": str(made.version), **own.identity.files}
    return Weights(ModelIdentity(config.name, None, files), own.paths)


def make(config: PluginConfig, protocol: type, given: Mapping[str, object]) -> Any:
    """What the factory makes with its options, with every member of a protocol.

    Args:
        config: names the factory.
        protocol: `Encoder`, `Segmenter` or `Head`.
        given: keywords that MedFocus gives beside the options.

    Raises:
        ConfigError: the factory does not take them, or what it made lacks a member.
    """
    made = _called(config, factory(config), given)
    members = [name for name in vars(protocol) if name[0] != "_"]
    missing = [name for name in members if not hasattr(made, name)]
    if missing:
        raise wrong(
            config,
            got=f"a {type(made).__name__} without {', '.join(missing)}",
            expected=f"a {protocol.__name__}, which has {', '.join(members)}",
        )
    return made


def wrong(config: PluginConfig, *, got: str, expected: str) -> ConfigError:
    """The error for a plug-in that does not keep to the contract."""
    return ConfigError(f"Plug-in {config.name}: got {got}, expected {expected} ({_GUIDE}).")


def _called(config: PluginConfig, function: Any, given: Mapping[str, object]) -> Any:
    try:
        return function(**given, **config.options)
    except TypeError as error:
        names = ", ".join([*given, *config.options]) or "none"
        raise ConfigError(
            f"Plug-in {config.name} does not take its options: {error}. Given were "
            f"{names}; change them with --set …options.NAME=VALUE."
        ) from error
