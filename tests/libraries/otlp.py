"""Decodes captured OTLP requests with the official messages of OpenTelemetry.

Reads lines `{"encoding": "gzip" or "", "body": base64}` of requests to `/v1/logs`, and prints each log record as a line of
JSON: its fields by name, attributes as a map, with the resource and the scope that it came with. Ends with another
status than 0 where a body has anything that the messages do not know.
"""

import base64
import gzip
import json
import sys

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


def value(any_value):
    kind = any_value.WhichOneof("value")
    if kind is None:
        return None
    inner = getattr(any_value, kind)
    if kind == "array_value":
        return [value(v) for v in inner.values]
    if kind == "kvlist_value":
        return attributes(inner.values)
    return inner


def attributes(pairs):
    read = {}
    for pair in pairs:
        if pair.key in read:
            sys.exit(f"an attribute stands twice: {pair.key}")
        read[pair.key] = value(pair.value)
    return read


def known_only(message):
    """The message without what it carries unread: of the same length where there is none."""
    again = type(message)()
    again.CopyFrom(message)
    again.DiscardUnknownFields()
    return again


for line in sys.stdin:
    captured = json.loads(line)
    body = base64.b64decode(captured["body"])
    if captured["encoding"] == "gzip":
        body = gzip.decompress(body)
    request = ExportLogsServiceRequest.FromString(body)
    if known_only(request).SerializeToString(deterministic=True) != body:
        sys.exit("the body has more than the messages know, or is written otherwise")
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                set_fields = sorted(field.name for field, _ in record.ListFields())
                print(json.dumps({
                    "resource": attributes(resource.resource.attributes),
                    "scope": [scope.scope.name, scope.scope.version],
                    "fields": set_fields,
                    "time": record.time_unix_nano,
                    "observed": record.observed_time_unix_nano,
                    "severity": record.severity_number,
                    "event": record.event_name,
                    "attributes": attributes(record.attributes),
                }))
