"""`lane plugins`: what each plugin brings, and what is wrong with those that did not load."""

from lane.plugins import Plugins


def run(config: None, plugins: Plugins) -> int:
    """Print a table of the plugins, then the errors."""
    rows = [("NAME", "VERSION", "FROM", "TRANSPORTS", "HOOKS")]
    rows += [
        (info.name, info.version or "-", info.where, _listed(info.transports), _listed(info.hooks))
        for info in plugins.loaded
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    if plugins.errors:
        print("\nErrors:")
        for error in plugins.errors:
            print(f"  {error}")
    return 0


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "-"
