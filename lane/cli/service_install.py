"""`lane service install`: it has systemd run the client or the server.

systemd makes the service's user while it runs (DynamicUser), so there is none to create.
"""

from pathlib import Path

from lane.cli import unit_files
from lane.cli.unit_files import LINK, Plan, Unit
from lane.config import ServiceConfig
from lane.errors import ConfigError

_NEXT = {
    "server": (
        "edit {conf}: set host, the name or address that clients use",
        "systemctl enable --now {name}",
        "lane link --state-dir /var/lib/lane        # the link for clients",
    ),
    "client": (
        f"install -m 600 /dev/stdin {LINK}   # paste the link of the server, then Ctrl-D",
        "systemctl enable --now {name}",
        "lane why",
    ),
}


def run(config: ServiceConfig, plugins: object, root: Path = Path("/")) -> int:
    """Write the unit and the configuration. Raises ConfigError, and then has changed nothing.

    `root` is the folder of the system, for tests.
    """
    unit = Unit(config.role, root)
    plan = Plan(root, dry=config.dry_run)
    plan.demand(unit_files.fitness)
    for folder in unit.packaged:
        if folder.exists():
            raise ConfigError(f"{folder} is from a package: systemctl enable --now {unit.name} starts it")
    unit.check()
    conf = unit.conf.read_text() if unit.conf.exists() else unit.configuration()
    plan.write(unit.path, unit.text(conf))
    if unit.conf.exists():
        plan.note(f"kept {unit.conf}")
    else:
        plan.write(unit.conf, conf)
    plan.note(f"no user to create: systemd makes {unit.name} while the service runs (DynamicUser)")
    plan.command("systemctl", "daemon-reload")
    plan.carry_out()
    print("\nnext, as root:")
    for line in _NEXT[config.role]:
        print(f"  {line.format(conf=unit.conf, name=unit.name)}")
    print(f"\nto undo it:\n  lane service remove --{config.role}")
    return 0
