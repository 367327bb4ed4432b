"""Finding and loading plugins. A broken plugin harms only itself.

A plugin is an object that an installed distribution names in the entry point group `lane.plugins`, or a
`*.py` file or a package in the plugin folder. The transports that ship with lane are loaded in the same way.
A plugin can fail to load: it may raise, implement an unknown hook, or register a transport under a name that
is taken. Each failure becomes a `LoadError`, which the user is shown, and the other plugins still load.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from lane import hookspecs
from lane.errors import ConfigError, Fatal, LaneError, Refused, Unreachable, UsageError
from lane.files import others_may_write
from lane.stream import Transport
from lane.supervisor import culprit, report
from lane.text import describe

GROUP = "lane.plugins"
Answer = TypeVar("Answer")
_NAME = re.compile(r"[a-z0-9_-]+")
_PASSED_ON = Fatal, Unreachable, Refused
"""Exceptions with which a plugin ends the program."""


class BadAnswer(LaneError):
    """A plugin raised in a hook that has a result, or returned an invalid result."""


@dataclass(frozen=True, slots=True)
class LoadError:
    """One failure of one plugin."""

    name: str
    where: str
    """The distribution or the file it came from."""
    message: str

    def __str__(self) -> str:
        return f"plugin {self.name} ({self.where}): {self.message}"


@dataclass(slots=True)
class PluginInfo:
    """One loaded plugin."""

    name: str
    version: str
    where: str
    """The distribution or the file it came from."""
    hooks: list[str] = field(default_factory=list)
    transports: list[str] = field(default_factory=list)


class Plugins:
    """The plugins of this process, their transports and their failures."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("lane")
        self._manager.add_hookspecs(hookspecs)
        self._info: dict[str, PluginInfo] = {}
        self.transports: dict[str, Transport] = {}
        self.errors: list[LoadError] = []

    @property
    def hook(self) -> Any:
        """Calls hooks in all plugins, as in `plugins.hook.lane_authenticate(token=..., binding=...)`."""
        return self._manager.hook

    @property
    def loaded(self) -> list[PluginInfo]:
        """The loaded plugins, in the order of loading."""
        return [*self._info.values()]

    def register(self, plugin: object, name: str, version: str = "", where: str = "built in") -> None:
        """Register a plugin. A failure is added to `errors`; nothing is raised."""
        if self._manager.has_plugin(name):
            self._failed(name, where, f"the name is taken by the plugin from {self._info[name].where}")
            return
        try:
            self._manager.register(plugin, name)
            self._refuse_unknown_hooks(plugin)
        except Exception as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            self._failed(name, where, describe(error))
            return
        hooks = [hook.name for hook in self._manager.get_hookcallers(plugin) or []]
        info = self._info[name] = PluginInfo(name, version, where, hooks)

        def add(transport: Transport) -> None:
            self._add_transport(transport, info)

        self._call(name, "lane_register_transports", register=add)

    def call_each(self, hook: str, **arguments: Any) -> None:
        """Call `hook` in one plugin after the other. A plugin that raises is added to `errors`.

        `Fatal`, `Unreachable` and `Refused` (see `lane.errors`) are raised here: they end the program.
        """
        for name in [*self._info]:
            self._call(name, hook, **arguments)

    def link_parameters(self) -> set[str]:
        """The names of the plugins' options that are part of a link."""
        found: set[str] = set()
        self.call_each("lane_register_link_parameters", register=found.add)
        return found

    def configure(self, options: Any) -> None:
        """Let each plugin read the options. A plugin that fails here ends the program: it would misbehave.

        A plugin's ValueError means a bad value and becomes a UsageError. Its other exceptions become a
        ConfigError, except for those in `_PASSED_ON`.
        """
        for name, info in [*self._info.items()]:
            try:
                self._caller(name, "lane_configure")(options=options, call_each=self.call_each)
            except _PASSED_ON:
                raise
            except ValueError as error:
                raise UsageError(f"plugin {name}: {' '.join(str(error).split()) or 'a bad option'}") from None
            except (Exception, SystemExit) as error:
                raise ConfigError(
                    str(LoadError(name, info.where, f"lane_configure: {describe(error)}"))
                ) from None

    def ask(self, hook: str, read: Callable[[Any], Answer], **arguments: Any) -> Answer | None:
        """Call a hook with a result. Return the first plugin's result, converted by `read`; None without one.

        `read` raises ValueError for an invalid result. That error, or any that a plugin raises, fails only
        this call: it is logged with the plugin's name, at most once a minute, and BadAnswer is raised.
        """
        caller = getattr(self._manager.hook, hook)
        if not caller.get_hookimpls():
            return None
        found: Any = None
        try:
            found = caller(**arguments)
            return None if found is None else read(found)
        except (Exception, SystemExit) as error:
            name = self._culprit(hook, error)
            if isinstance(error, ValueError | TypeError) and found is not None:
                error = BadAnswer(f"the plugin {name} answers {hook} with {found!r}, which is no answer")
                report(f"{hook} of the plugin {name}", error)
                raise error from None
            report(f"{hook} of the plugin {name}", error)
            raise BadAnswer(f"the plugin {name} failed in {hook}") from None

    def _culprit(self, hook: str, error: BaseException) -> str:
        """The plugin that raised `error`, found by its source file, or else all plugins with the hook."""
        names = [str(impl.plugin_name) for impl in getattr(self._manager.hook, hook).get_hookimpls()]
        return culprit(error, self.owner) or " or ".join(names)

    def owner(self, filename: str) -> str | None:
        """The plugin that a source file belongs to, if any."""
        for name, plugin in self._manager.list_name_plugin():
            module = plugin if isinstance(plugin, ModuleType) else sys.modules.get(type(plugin).__module__)
            top = sys.modules.get(module.__name__.partition(".")[0]) if module else None
            if top is None or top.__name__ == "lane":
                continue
            folders = getattr(top, "__path__", None)
            if filename == getattr(top, "__file__", None) or any(
                filename.startswith(f"{folder}{os.sep}") for folder in folders or ()
            ):
                return name
        return None

    def transport(self, name: str) -> Transport:
        """The transport called `name`. Raises UsageError if there is none."""
        if name in self.transports:
            return self.transports[name]
        message = f"unknown transport {name!r} (there are: {', '.join(sorted(self.transports)) or 'none'})"
        if self.errors:
            message += "; some plugins did not load, lane plugins says why"
        raise UsageError(message)

    def tried(self, names: Sequence[str]) -> list[Transport]:
        """The transports called `names`; `auto` or `each`: all of them. Raises UsageError."""
        everything = tuple(names) in (("auto",), ("each",))
        return [self.transport(name) for name in (sorted(self.transports) if everything else names)]

    def discover(self, plugin_dir: Path | None) -> None:
        """Load the installed plugins, then those in `plugin_dir`. Raises ConfigError for a bad folder."""
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
            self._load_entry_point(entry)
        if plugin_dir is not None:
            for path in _candidates(plugin_dir):
                self._load_file(path)

    def _load_entry_point(self, entry: EntryPoint) -> None:
        where, version = (entry.dist.name, entry.dist.version) if entry.dist else (entry.value, "")
        try:
            plugin = entry.load()
        except (Exception, SystemExit) as error:
            self._failed(entry.name, where, describe(error))
        else:
            self.register(plugin, entry.name, version, where)

    def _load_file(self, path: Path) -> None:
        name = path.stem if path.is_file() else path.name
        try:
            writable = next((p for p in (path, *path.rglob("*")) if others_may_write(p)), None)
        except OSError as error:
            self._failed(name, str(path), f"cannot read {error.filename}: {error.strerror}")
            return
        if writable is not None:
            self._failed(name, str(path), f"refused, since others may write to {writable}")
            return
        try:
            module = _import_file(f"lane_plugin_dir_{name}", path)
        except (Exception, SystemExit) as error:
            self._failed(name, str(path), describe(error))
        else:
            self.register(module, name, str(getattr(module, "__version__", "")), str(path))

    def _refuse_unknown_hooks(self, plugin: object) -> None:
        # pluggy's `check_pending` does the same, but tells the plugin's repr and no name.
        for hook in self._manager.get_hookcallers(plugin) or []:
            here = (impl for impl in hook.get_hookimpls() if impl.plugin is plugin)
            if not hook.has_spec() and not all(impl.optionalhook for impl in here):
                raise LookupError(f"there is no hook {hook.name}")

    def _caller(self, name: str, hook: str) -> Any:
        """A function that calls `hook` in one plugin only."""
        plugin = self._manager.get_plugin(name)
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        return self._manager.subset_hook_caller(hook, remove_plugins=others)

    def _call(self, name: str, hook: str, **arguments: Any) -> None:
        try:
            self._caller(name, hook)(**arguments)
        except _PASSED_ON:
            raise
        except (Exception, SystemExit) as error:
            self._failed(name, self._info[name].where, f"{hook}: {describe(error)}")

    def _add_transport(self, transport: Transport, info: PluginInfo) -> None:
        name = getattr(transport, "name", None)
        lacking = [call for call in ("dial", "listen") if not callable(getattr(transport, call, None))]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._failed(info.name, info.where, f"a transport's name has a-z, 0-9, _ and -, not {name!r}")
        elif lacking:
            self._failed(info.name, info.where, f"the transport {name} lacks {' and '.join(lacking)}")
        elif name in self.transports:
            self._failed(info.name, info.where, f"the transport name {name} is taken")
        else:
            self.transports[name] = transport
            info.transports.append(name)

    def _failed(self, name: str, where: str, message: str) -> None:
        self.errors.append(LoadError(name, where, message))


def load(plugin_dir: Path | None = None) -> Plugins:
    """Find and load all plugins. Raises ConfigError if `plugin_dir` is missing or not safe to use."""
    plugins = Plugins()
    plugins.discover(plugin_dir)
    return plugins


def _candidates(folder: Path) -> Iterator[Path]:
    """Plugin files and packages in `folder`, sorted. Raises ConfigError."""
    try:
        if others_may_write(folder):
            raise ConfigError(f"plugin folder {folder}: refused, since others may write to it")
        found = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"plugin folder {folder}: {error.strerror}") from None
    for path in found:
        if path.name.startswith(("_", ".")):
            continue
        if (path.suffix == ".py" and path.is_file()) or (path / "__init__.py").is_file():
            yield path


def _import_file(module_name: str, path: Path) -> object:
    package = path.is_dir()
    spec = importlib.util.spec_from_file_location(
        module_name,
        path / "__init__.py" if package else path,
        submodule_search_locations=[str(path)] if package else None,
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    # With a lax umask, others could write to the new __pycache__, and the next start would refuse it.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    finally:
        sys.dont_write_bytecode = before
    return module
