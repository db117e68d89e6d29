"""Reads captured deliveries with the official CloudEvents SDK for Python.

Reads lines `{"headers": {...}, "body": "..."}`, structured or binary, and writes what the SDK understood of each as a line
of JSON: every attribute, and the data.
"""

import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat

for line in sys.stdin:
    delivery = json.loads(line)
    message = HTTPMessage(headers=delivery["headers"], body=delivery["body"].encode())
    event = from_http(message, JSONFormat())
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    print(json.dumps({"attributes": attributes, "data": event.get_data()}))
