"""Asking the admin port of a real process."""

import json
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import DEADLINE, lasting_port

SECRET = "a-secret-of-many-characters"


def guarded(folder, *, name="admin-secret"):
    """A port for `--admin` with a secret, and its options."""
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.touch(0o600)
    file.write_text(f"{SECRET}\n")
    port = lasting_port()
    return port, ["--admin", f"127.0.0.1:{port}", "--admin-secret", f"@{file}"]


def fetch(port, path, data=None, secret=SECRET, method=None, **headers):
    """The status and the body. Raises OSError where nobody answers."""
    if secret:
        headers["Authorization"] = secret
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=DEADLINE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def fetch_json(port, path, data=None):
    status, body = fetch(port, path, data)
    assert status == 200, body
    return json.loads(body)


def scrape(port):
    """All samples: by name and labels."""
    status, body = fetch(port, "/metrics")
    assert status == 200, body
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }
