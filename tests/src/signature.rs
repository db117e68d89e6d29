//! Standard Webhooks v1 signatures, computed here and not by the daemon's code.

use crate::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Whether one entry of the request's `webhook-signature` is made with this `whsec_` secret.
#[must_use]
pub fn holds(request: &Request, secret: &str) -> bool {
    let Ok(key) = STANDARD.decode(secret.trim_start_matches("whsec_")) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
    let (id, time) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    if id.is_empty() || time.is_empty() {
        return false;
    }
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(&request.body);
    let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    request.header("webhook-signature").split(' ').any(|entry| entry == wanted)
}
