// Verifies captured deliveries with the official Standard Webhooks library for JavaScript.
//
// Reads lines `{"headers": {...}, "body": "..."}`; the first argument is the folder of the library, the second the
// secret. Ends with 0 where each holds as it arrived and none holds with a changed byte, id or time.

import assert from "node:assert";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [folder, secret] = process.argv.slice(2);
const { Webhook, WebhookVerificationError } = createRequire(folder + "/")("standardwebhooks");
const hook = new Webhook(secret);
const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);

for (const line of lines) {
  const { headers, body } = JSON.parse(line);
  assert.deepStrictEqual(hook.verify(body, headers), JSON.parse(body));
  const refuses = (body, changed) =>
    assert.throws(() => hook.verify(body, { ...headers, ...changed }), WebhookVerificationError);
  const middle = body.length >> 1;
  refuses(body.slice(0, middle) + (body[middle] === "0" ? "1" : "0") + body.slice(middle + 1), {});
  refuses(body + " ", {});
  refuses(body, { "webhook-id": headers["webhook-id"] + "x" });
  refuses(body, { "webhook-timestamp": String(Number(headers["webhook-timestamp"]) + 1) });
}
console.log(lines.length);
