"""Sends events with the official PostHog SDK for Python to a local socket.

The arguments are the URL and the project's key; reads one JSON array of events as a batch of PostHog has them. Of their
properties those are passed on that the caller of an SDK brings.
"""

import json
import sys
from datetime import datetime

from posthog import Posthog

client = Posthog(sys.argv[2], host=sys.argv[1], gzip=True, max_retries=0)
for event in json.load(sys.stdin):
    brought = ("event_properties", "derived_properties", "$process_person_profile")
    client.capture(
        event["event"],
        distinct_id=event["distinct_id"],
        uuid=event["uuid"],
        timestamp=datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")),
        properties={name: event["properties"][name] for name in brought},
    )
client.shutdown()
