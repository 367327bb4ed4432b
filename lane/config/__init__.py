"""The configuration: it turns the texts of options into checked values.

The rest of lane uses these frozen dataclasses and checks nothing again.
"""

from lane.config.check import CheckConfig, SpeedtestConfig, check_config, speedtest_config
from lane.config.client import ClientConfig, WhyConfig, client_config, link_parameters, why_config
from lane.config.diag import DiagConfig, diag_config
from lane.config.listeners import is_loopback
from lane.config.open import OpenConfig, open_config
from lane.config.option_reader import plugin_dir
from lane.config.plugins import PluginsConfig, plugins_config
from lane.config.server import (
    LinkConfig,
    ReloadConfig,
    ServerConfig,
    StatusConfig,
    UpgradeConfig,
    link_config,
    reload_config,
    server_config,
    status_config,
    upgrade_config,
)
from lane.config.service import ServiceConfig, service_config
from lane.config.settings import DEFAULT_TRANSPORTS, LIVE
from lane.config.top import TopConfig, top_config
from lane.config.user import UserConfig, user_config

__all__ = [
    "DEFAULT_TRANSPORTS", "LIVE", "CheckConfig", "ClientConfig", "DiagConfig", "LinkConfig",
    "OpenConfig", "PluginsConfig", "ReloadConfig", "ServerConfig", "ServiceConfig", "SpeedtestConfig",
    "StatusConfig", "TopConfig", "UpgradeConfig", "UserConfig", "WhyConfig", "check_config", "client_config",
    "diag_config", "is_loopback", "link_config", "link_parameters", "open_config", "plugin_dir",
    "plugins_config", "reload_config", "server_config", "service_config", "speedtest_config",
    "status_config", "top_config", "upgrade_config", "user_config", "why_config",
]  # fmt: skip
