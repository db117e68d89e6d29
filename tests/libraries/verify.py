"""Verifies captured deliveries with the official Standard Webhooks library for Python.

Reads lines `{"headers": {...}, "body": "..."}`; the first argument is the secret. Ends with 0 where each holds as it
arrived and none holds with a changed byte, id or time.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

hook, seen = Webhook(sys.argv[1]), 0


def refuses(body, headers, what):
    try:
        hook.verify(body, headers)
    except WebhookVerificationError:
        return
    sys.exit(f"accepted with another {what}: {headers}")


for line in sys.stdin:
    delivery = json.loads(line)
    body, headers = delivery["body"], delivery["headers"]
    # What the library answers is the parsed body.
    if hook.verify(body, headers) != json.loads(body):
        sys.exit(f"another body: {body}")
    middle = len(body) // 2
    refuses(body[:middle] + ("0" if body[middle] != "0" else "1") + body[middle + 1 :], headers, "byte")
    refuses(body + " ", headers, "length")
    refuses(body, {**headers, "webhook-id": headers["webhook-id"] + "x"}, "id")
    refuses(body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, "time")
    seen += 1
print(seen)
