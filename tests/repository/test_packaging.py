import ast
import configparser
from pathlib import Path

from lane.cli import build

ROOT = Path(__file__).parents[2]


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def packages_under(folder):
    return {
        ".".join(init.parent.relative_to(folder).parts)
        for init in folder.rglob("__init__.py")
        if "egg-info" not in str(init)
    }


def test_the_list_of_packages_is_the_tree():
    listed = setup_cfg()["options"]["packages"].split()
    assert len(listed) == len(set(listed))
    core = {f"lane.{name}".rstrip(".") for name in packages_under(ROOT / "lane")}
    assert set(listed) == core | packages_under(ROOT / "plugins")


def test_every_source_file_is_in_a_package():
    for top in ("lane", "plugins"):
        for path in (ROOT / top).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


def test_every_plugin_has_its_folder_and_its_entry_point():
    config = setup_cfg()
    plugins = {path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists()}
    mapped = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert mapped == {name: f"plugins/{name}" for name in plugins}
    entries = config["options.entry_points"]["lane.plugins"].strip().splitlines()
    modules = [line.split(" = ")[1] for line in entries]
    assert {module.split(".")[0] for module in modules} == plugins
    for module in modules:
        assert (ROOT / "plugins" / module.replace(".", "/")).with_suffix(".py").exists()


def test_coverage_measures_the_same_packages():
    config = setup_cfg()
    tops = {name.split(".")[0] for name in config["options"]["packages"].split()}
    assert set(config["coverage:run"]["source_pkgs"].replace(",", " ").split()) == tops


def test_what_may_be_compiled_is_looked_for_and_its_source_is_there():
    calls = [
        node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)
    ]
    found = [call for call in calls if ast.unparse(call.func) == "Extension"]
    assert [ast.literal_eval(call.args[0]) for call in found] == [*build.MODULES]
    makefile = (ROOT / "Makefile").read_text()
    (rule,) = [line for line in makefile.splitlines() if line.startswith(".venv/.lane:")]
    for call in found:
        assert {"optional", "py_limited_api"} <= {option.arg for option in call.keywords}
        for source in ast.literal_eval(call.args[1]):
            assert (ROOT / source).exists()
            assert source in rule.split(), "a change of it must build it anew"
