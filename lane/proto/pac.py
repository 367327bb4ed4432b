"""The proxy auto-config file. A browser that has its URL needs no other setting.

The file is JavaScript, which browsers run. It contains the proxy's address. Only the request tells this
address, since the proxy may listen on every address, under any name. So the name must pass a strict check,
and nothing else from the request is used.
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
    """The file for a request with the field `Host: host`. `own` is used if that field is not a plain name."""
    here = _host_and_port(host.decode("latin-1")) or str(own)
    return _SCRIPT.replace("PROXY_HERE", here)


def _host_and_port(text: str) -> str | None:
    match = _HOST.fullmatch(text)
    if not match:
        return None
    if match[1] is None:
        return f"{text}:80"  # browsers leave out the default port
    return text if 0 < int(match[1]) <= 0xFFFF else None
