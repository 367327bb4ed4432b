"""`lane service remove`: it stops a service, and takes away what `lane service install` wrote."""

from pathlib import Path

from lane.cli.unit_files import LINK, Plan, Unit, is_ours
from lane.config import ServiceConfig

_STATE = "/var/lib/lane"


def run(config: ServiceConfig, plugins: object, root: Path = Path("/")) -> int:
    """Remove the unit, and the configuration unless somebody has changed it. Raises ConfigError.

    `root` is the folder of the system, for tests.
    """
    unit = Unit(config.role, root)
    plan = Plan(root, dry=config.dry_run)
    plan.demand()
    unit.check()
    if unit.path.exists():
        plan.command("systemctl", "disable", "--now", unit.name)
        plan.remove(unit.path)
        plan.command("systemctl", "daemon-reload")
    else:
        plan.note(f"no {unit.path}")
    if is_ours(unit.conf):
        plan.remove(unit.conf)
    yours = [unit.conf, root / LINK.lstrip("/")] if config.role == "client" else [unit.conf]
    for path in yours:
        if path.exists() and not is_ours(path):
            plan.note(f"kept {path}, which is yours")
    if config.role == "server" and (state := root / _STATE.lstrip("/")).exists():
        plan.note(f"kept {state}: without it, links to this server stop working")
    plan.carry_out()
    return 0
