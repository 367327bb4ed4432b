"""What the processes of all servers tell each other through a Redis: what users want of their rates.

    lane:processes         a set: the keys of processes that serve
    lane:process:ID        what users want there (`lane.users.rate_shares`), as JSON by name

The clock of Redis says who serves: what a process has told vanishes unless it tells it again.
"""

import json
from typing import Any

from lane.users.rate_shares import Wants

TOLD_FOR = 2.5
"""Seconds for which a process counts as serving after it has told what its users want."""

_PROCESSES, _PROCESS = "lane:processes", "lane:process:"
_EXCHANGE = """
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('SADD', KEYS[1], KEYS[2])
local found = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local text = redis.call('GET', key)
  if text then
    found[#found + 1] = key
    found[#found + 1] = text
  else
    redis.call('SREM', KEYS[1], key)
  end
end
return found
"""


def exchange(client: Any, process: str, wants: Wants) -> dict[str, Wants]:
    """Tell what users want in `process`. Returns what they want in each, this one included.

    Raises redis.RedisError, OSError.
    """
    keys = _PROCESSES, _PROCESS + process
    told = json.dumps({name: [round(up), round(down)] for name, (up, down) in wants.items()})
    found = client.eval(_EXCHANGE, len(keys), *keys, told, str(round(TOLD_FOR * 1000)))
    names = (key.removeprefix(_PROCESS) for key in found[::2])
    return {name: json.loads(text) for name, text in zip(names, found[1::2], strict=True)}
