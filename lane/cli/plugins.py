"""`lane plugins`: it lists the plugins, their hooks and transports, and the errors of faulty plugins."""

from lane.cli.fold import fold
from lane.config import PluginsConfig
from lane.plugins import Plugins


def run(config: PluginsConfig, plugins: Plugins) -> int:
    """Print a table of the plugins and their errors, or measure a transport's cost."""
    if config.measure is not None:
        from lane.cli.measure import measure  # noqa: PLC0415 - it needs the client and the server

        return measure(config.measure, plugins)
    rows = [("NAME", "VERSION", "FROM", "TRANSPORTS", "HOOKS")]
    rows += [
        (info.name, info.version or "-", info.where, _listed(info.transports), _listed(info.hooks))
        for info in plugins.loaded
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        print(fold(line, sum(widths[:-1]) + 2 * len(widths[:-1])))
    if plugins.errors:
        print("\nErrors:")
        for error in plugins.errors:
            print(f"  {error}")
    return 0


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "-"
