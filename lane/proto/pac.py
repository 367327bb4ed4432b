"""The proxy auto-config file: a browser that is given its address needs no other setting.

The file is JavaScript that browsers run, and where they reach the proxy is known from their request only
(it may listen on every address, behind a name). So that name passes a narrow test, and nothing else of a
request gets in.
"""

import re

from lane.address import Address

PATH = b"/proxy.pac"
TYPE = "application/x-ns-proxy-autoconfig"

_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_SCRIPT = """\
// Names of this machine and of the local network go direct. An IPv6 address has no dot in it, and is no name.
function FindProxyForURL(url, host) {
  host = host.replace(/^\\[|\\]$/g, "");
  if (host.indexOf(":") < 0 ? isPlainHostName(host) : host == "::1") return "DIRECT";
  if (/(^|\\.)localhost$/i.test(host) || /^127(\\.[0-9]+){3}$/.test(host)) return "DIRECT";
  return "SOCKS5 PROXY_HERE; SOCKS PROXY_HERE; PROXY PROXY_HERE";
}
"""


def script(host: bytes, own: Address) -> str:
    """The file for who asked with the field `Host: host`; `own` is where we are if that is not plain."""
    here = _host_and_port(host.decode("latin-1")) or str(own)
    return _SCRIPT.replace("PROXY_HERE", here)


def _host_and_port(text: str) -> str | None:
    match = _HOST.fullmatch(text)
    if not match:
        return None
    if match[1] is None:
        return f"{text}:80"  # what a browser leaves out
    return text if 0 < int(match[1]) <= 0xFFFF else None
