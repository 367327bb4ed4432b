"""The cost of the client's rules: memory for each rule, and the time to find the rule of a target.

    python bench/rules.py [--count 100000]

Half of the rules name a domain, half a network. The time is the median of many look-ups that match none.
"""

import argparse
import ipaddress
import statistics
import time

import psutil

from lane.address import Address
from lane.egress.rules import RouteRule, RouteTable


def written(count):
    for number in range(count):
        network = ipaddress.IPv4Address(number << 8)
        yield RouteRule.parse(f"block {network}/24" if number % 2 else f"block d{number}.example.com")


def microseconds(table, host):
    target, times = Address(host, 443), []
    for _ in range(10_000):
        start = time.perf_counter()
        table.find(target)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    count = parser.parse_args().count
    process = psutil.Process()
    before = process.memory_info().rss
    table = RouteTable(written(count))
    print(f"{(process.memory_info().rss - before) / count:.0f} bytes a rule")
    for host in ("www.nowhere.example.net", "203.0.113.7"):
        print(f"{host}: {microseconds(table, host):.1f} us")


if __name__ == "__main__":
    main()
