"""Verifies captured deliveries as GitHub's page tells its receivers to, with nothing but the standard library.

Reads lines `{"headers": {...}, "body": "..."}`; the first argument is the secret. Ends with 0 where each holds as it
arrived and none holds with a changed byte or another secret.
"""

import hashlib
import hmac
import json
import sys


def holds(body, headers, secret):
    wanted = "sha256=" + hmac.new(secret.encode(), msg=body, digestmod=hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, headers["x-hub-signature-256"])


secret, seen = sys.argv[1], 0
for line in sys.stdin:
    delivery = json.loads(line)
    body, headers = delivery["body"].encode(), delivery["headers"]
    if not holds(body, headers, secret):
        sys.exit(f"refused: {headers}")
    if holds(body + b"\n", headers, secret) or holds(body[:-1], headers, secret) or holds(body, headers, secret + "x"):
        sys.exit(f"accepted what was changed: {headers}")
    seen += 1
print(seen)
