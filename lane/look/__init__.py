"""What a running client or server looks like: the view that `lane top` and web pages draw.

A view is one JSON object, whose fields docs/METRICS.md lists. Only a record of the last minutes is kept while
nobody looks, of one sample a second. All the rest is found out when somebody asks.
"""
