//! What a caller may write, what is kept of it, and what is read of that.

use super::*;
use crate::clock::{SystemClock, SystemRandom};
use posthaste_deliverees::http::Http;

const URL: &str = "https://hooks.example.com/CANARY-path?CANARY-query";

fn scribe_of(key: u8, previous: &[u8]) -> Scribe {
    let previous: Vec<_> = previous.iter().map(|byte| [*byte; 32]).collect();
    let guard = Guard::allowing(Vec::new());
    let tools = Tools {
        http: Http::new(guard.clone()),
        clock: Arc::new(SystemClock),
        print: Arc::new(|_| async { Ok(()) }.boxed()),
        subscription: Arc::from(""),
    };
    Scribe::new(Desk {
        kinds: Kinds::built_in(),
        guard,
        retry: RetryPolicy::default(),
        catalogue: Catalogue::default(),
        tools,
        vault: Arc::new(Vault::new(&[key; 32], &previous)),
        random: SystemRandom,
    })
}

pub(crate) fn scribe() -> Scribe {
    scribe_of(1, &[])
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn webhook() -> Map<String, Value> {
    object(json!({"name": "ops", "deliveree": "webhook", "events": ["posthaste:**"], "url": URL,
        "headers": {"x-env": "CANARY-header"}}))
}

fn with(key: &str, value: Value) -> Map<String, Value> {
    let mut settings = webhook();
    settings.insert(key.to_owned(), value);
    settings
}

fn pointers(refused: Result<Draft, NotWritten>) -> Vec<String> {
    match refused {
        Err(NotWritten::Wrong(mistakes)) => {
            assert!(mistakes.iter().all(|m| !m.detail.is_empty()), "{mistakes:?}");
            mistakes.into_iter().map(|m| m.pointer).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read_back_and_its_secret_part_is_sealed() {
    let draft = scribe().create(webhook()).unwrap();
    let secret = draft.secret.unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 38, "24 bytes: {}", secret.len());
    let kept = String::from_utf8(draft.definition.body.to_vec()).unwrap();
    assert!(!kept.contains("CANARY") && !kept.contains(&secret), "{kept}");
    assert!(kept.contains("posthaste:**"), "what matching needs is open");
    let Authored { subscription, fault } = scribe().read(&draft.definition);
    assert_eq!((fault, version(&subscription).revision), (None, 1));
    assert_eq!(subscription.shown["url"], "https://hooks.example.com");
    assert!(!format!("{:?}", subscription.shown).contains("CANARY"), "{:?}", subscription.shown);
    assert_eq!(subscription.reveal.whole()["url"], URL);
    assert_eq!(Some((subscription.make)().timeout()), subscription.ahead.map(|(_, timeout)| timeout));
}

fn version(subscription: &Subscription) -> Version {
    match subscription.source {
        Source::Api(version) => version,
        Source::Config => panic!("it stands in the outbox"),
    }
}

#[test]
fn a_version_is_never_that_of_another_of_its_name_and_one_of_before_is_still_read() {
    let (first, second) = (scribe().create(webhook()).unwrap(), scribe().create(webhook()).unwrap());
    let [one, other] = [&first, &second].map(|draft| version(&draft.authored.subscription));
    assert_eq!((one.revision, other.revision), (1, 1));
    assert_ne!(one.made, other.made, "made twice under one name");
    let again = scribe().change(&first.definition, object(json!({"timeout": "3s"}))).unwrap();
    assert_eq!(version(&again.authored.subscription), Version { revision: 2, ..one });
    let rotated = scribe().rotate(&again.definition, Rotation::default(), Timestamp::from_micros(0)).unwrap();
    assert_eq!(version(&rotated.authored.subscription), Version { revision: 3, ..one });
    let resealed = scribe_of(9, &[1]).reseal(&rotated.definition).unwrap();
    let read = scribe_of(9, &[]).read(&resealed);
    assert_eq!((read.fault, version(&read.subscription)), (None, Version { revision: 3, ..one }));
    // One whose key is lost keeps it too, and one that was kept before there was a mark has none.
    let lost = scribe_of(5, &[]).read(&rotated.definition).subscription;
    assert_eq!(version(&lost), Version { revision: 3, ..one });
    let mut body = object(serde_json::from_slice(&first.definition.body).unwrap());
    body.remove("made").unwrap();
    let old = Definition { body: serde_json::to_vec(&body).unwrap().into(), ..first.definition };
    let read = scribe().read(&old);
    assert_eq!((read.fault, version(&read.subscription)), (None, Version { revision: 1, made: 0 }));
    let changed = scribe().change(&old, object(json!({"timeout": "3s"}))).unwrap();
    assert_eq!(version(&changed.authored.subscription), Version { revision: 2, made: 0 });
}

#[test]
fn a_mistake_is_named_at_its_pointer() {
    for (settings, expected) in [
        (object(json!({})), vec!["/name", "/deliveree"]),
        (object(json!({"name": "ops", "deliveree": "webhook"})), vec!["/url"]),
        (with("name", json!("no name")), vec!["/name"]),
        (with("name", json!(7)), vec!["/name"]),
        (with("deliveree", json!("pigeon")), vec!["/deliveree"]),
        (with("events", json!(["a:**", "!"])), vec!["/events/1"]),
        (with("unknown/key", json!(1)), vec!["/unknown~1key"]),
        (with("retry", json!({"initial": "soon"})), vec!["/retry/initial"]),
        (with("concurrency", json!(0)), vec!["/concurrency"]),
        (with("secrets", json!(["whsec_short"])), vec!["/secrets/0"]),
        (with("secrets", json!([])), vec!["/secrets"]),
        (with("headers", json!({"host": "x"})), vec!["/headers/host"]),
        (with("filter", json!("data.(")), vec!["/filter"]),
        (with("url", json!("http://127.0.0.1/x")), vec!["/url"]),
        (with("url", json!("https://user:pass@example.com/x")), vec!["/url"]),
        (with("timeout", Value::Null), vec!["/timeout"]),
        (with("concurrency", json!(18_446_744_073_709_551_615_u64)), vec!["/concurrency"]),
    ] {
        let found = pointers(scribe().create(settings.clone()));
        assert_eq!(found, expected, "{settings:?}");
    }
}

#[test]
fn nothing_of_the_daemons_machine_is_reached_and_no_protection_taken_away() {
    let cases = [
        (with("url", json!("env:HOME")), "/url"),
        (with("secrets", json!(["file:/etc/passwd"])), "/secrets/0"),
        (with("headers", json!({"x-a": "env:HOME"})), "/headers/x-a"),
        (with("where", json!({"deep": {"er": "file:x"}})), "/where/deep/er"),
        (object(json!({"name": "a", "deliveree": "console"})), "/deliveree"),
        (with("dangerous_accept_invalid_certificates", json!(true)), "/dangerous_accept_invalid_certificates"),
        (object(json!({"name": "a", "deliveree": "analytics", "backend": "file", "path": "/tmp/x"})), "/backend"),
    ];
    for (settings, pointer) in cases {
        let found = pointers(scribe().create(settings.clone()));
        assert!(found.iter().any(|p| p == pointer), "{settings:?}: {found:?}");
    }
}

#[test]
fn no_mistake_repeats_a_secret() {
    for settings in [
        with("secrets", json!(["CANARY"])),
        with("secrets", json!("CANARY")),
        with("url", json!("ftp://example.com/CANARY")),
        with("url", json!(["CANARY"])),
        with("headers", json!({"x-a": "CANARY\n"})),
        with("headers", json!("CANARY")),
        with("secret", json!("CANARY")),
    ] {
        let refused = scribe().create(settings).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("CANARY"), "{refused:?}");
    }
}

#[test]
fn a_patch_is_a_merge_over_what_was_written_secrets_included() {
    let first = scribe().create(webhook()).unwrap();
    let secret = scribe().opened(&first.definition).unwrap()["secrets"].clone();
    let patch = object(json!({"timeout": "3s", "headers": {"x-new": "1"}, "retry": {"max": "1h"}}));
    let second = scribe().change(&first.definition, patch).unwrap();
    assert_eq!(second.definition.revision, 2);
    let settings = scribe().opened(&second.definition).unwrap();
    assert_eq!(settings["secrets"], secret);
    assert_eq!(settings["headers"], json!({"x-env": "CANARY-header", "x-new": "1"}));
    assert_eq!(second.authored.subscription.retry.max, Duration::from_secs(3600));
    let third = scribe().change(&second.definition, object(json!({"retry": null, "headers": null}))).unwrap();
    let settings = scribe().opened(&third.definition).unwrap();
    assert!(!settings.contains_key("retry") && !settings.contains_key("headers"), "{:?}", settings.keys());
    for (patch, pointer) in [
        (json!({"secrets": null}), "/secrets"),
        (json!({"url": null}), "/url"),
        (json!({"name": "other"}), "/name"),
        (json!({"tenant": "acme"}), "/tenant"),
        (json!({"url": "http://169.254.169.254/"}), "/url"),
    ] {
        assert_eq!(pointers(scribe().change(&third.definition, object(patch.clone()))), [pointer], "{patch}");
    }
}

#[test]
fn what_an_earlier_key_sealed_is_sealed_again_and_a_lost_key_is_a_fault() {
    let kept = scribe_of(1, &[]).create(webhook()).unwrap().definition;
    assert_eq!(scribe_of(1, &[]).reseal(&kept), None);
    let both = scribe_of(2, &[1]);
    let resealed = both.reseal(&kept).unwrap();
    assert_eq!((resealed.revision, both.reseal(&resealed)), (1, None));
    let new = scribe_of(2, &[]);
    assert_eq!(new.read(&resealed).fault, None);
    assert_eq!(new.read(&resealed).subscription.reveal.whole()["url"], URL);
    assert_eq!(new.reseal(&kept), None);
    let lost = new.read(&kept);
    assert!(lost.fault.unwrap().contains("key"), "disabled for it");
    assert_eq!(lost.subscription.selectors.len(), 1, "matched all the same");
    assert_eq!(pointers(new.change(&kept, Map::new())), ["/url", "/secrets"], "what was sealed is missing");
    let anew = object(json!({"url": URL, "secrets": [scribe().new_secret()]}));
    let anew = new.change(&kept, anew).unwrap();
    assert_eq!((anew.authored.fault, anew.definition.revision), (None, 2), "written anew it can run");
    let refused = new.rotate(&kept, Rotation::default(), Timestamp::from_millis(0)).unwrap_err();
    assert!(matches!(refused, NotWritten::Unreadable(_)), "{refused:?}");
}

#[test]
fn what_is_damaged_is_a_fault_and_never_a_panic() {
    let kept = scribe().create(webhook()).unwrap().definition;
    for at in 0..kept.body.len() {
        let mut body = kept.body.to_vec();
        body[at] ^= 0x11;
        let bad = Definition { body: body.into(), ..kept.clone() };
        let read = scribe().read(&bad);
        assert_eq!(read.subscription.name, "ops");
        let _ = ((read.subscription.make)(), read.subscription.reveal.whole());
    }
    let none = Definition { body: Bytes::from_static(b"{"), ..kept };
    assert_eq!(scribe().read(&none).fault.as_deref(), Some(UNREAD));
}

#[test]
fn merging_is_as_rfc_7396_has_it() {
    // The table of appendix A, as far as its targets are objects.
    for (target, patch, result) in [
        (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
        (json!({"a":"b"}), json!({"a":null}), json!({})),
        (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
        (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
        (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
        (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
        (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
        (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
    ] {
        let mut merged = object(target);
        merge(&mut merged, object(patch.clone()));
        assert_eq!(Value::from(merged), result, "{patch}");
    }
}

#[test]
fn old_secrets_end_with_the_grace_or_sooner() {
    let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
    let until = later(now, GRACE);
    let told = |secret| ending(secret, "new", until, now).map(|(_, secret)| secret);
    assert_eq!(told(json!("old")), Some(json!({"secret": "old", "until": "2026-01-02T00:00:00.000Z"})));
    let soon = json!({"secret": "older", "until": "2026-01-01T01:00:00.000Z"});
    assert_eq!(told(soon.clone()), Some(soon));
    let far = json!({"secret": "older", "until": "2027-01-01T01:00:00Z"});
    assert_eq!(told(far).unwrap()["until"], "2026-01-02T00:00:00.000Z");
    assert_eq!(told(json!({"secret": "gone", "until": "2025-01-01T01:00:00Z"})), None);
    assert_eq!(told(json!("new")), None, "it is the new one");
    assert!(ending(json!("old"), "new", now, now).is_none(), "without a grace");
}

/// The scribe of a daemon whose `[retry]` says otherwise than when the definitions came.
fn scribe_retrying(retry: RetryPolicy) -> Scribe {
    let Some(desk) = Arc::into_inner(scribe().0) else { panic!("it is held twice") };
    Scribe::new(Desk { retry, ..desk })
}

#[test]
fn a_default_that_changes_takes_no_subscription_out_of_the_matching() {
    let kept = scribe().create(with("retry", json!({"initial": "5m"}))).unwrap().definition;
    let minute = Duration::from_secs(60);
    let later = scribe_retrying(RetryPolicy { initial: minute, max: minute, ..RetryPolicy::default() });
    let Authored { subscription, fault } = later.read(&kept);
    assert_eq!((fault, subscription.retry.initial, subscription.retry.max), (None, minute, minute));
    assert_eq!(subscription.selectors, scribe().read(&kept).subscription.selectors);
}

#[test]
fn what_is_not_read_any_more_keeps_its_tenant_and_what_it_wants() {
    let kept = scribe().create(with("tenant", json!("acme"))).unwrap().definition;
    let whole = scribe().read(&kept).subscription;
    let changed = |change: fn(&mut Value)| {
        let mut body: Value = serde_json::from_slice(&kept.body).unwrap();
        change(&mut body);
        let read = scribe().read(&Definition { body: body.to_string().into(), ..kept.clone() });
        assert!(read.fault.is_some(), "{body}");
        read.subscription
    };
    for change in [
        (|body| body["open"]["deliveree"] = json!("pigeon")) as fn(&mut Value),
        |body| body["open"]["concurrency"] = json!(0),
        |body| body["version"] = json!(9),
        |body| body["timeout_ms"] = Value::Null,
    ] {
        let read = changed(change);
        assert_eq!((read.tenant, read.selectors), (whole.tenant.clone(), whole.selectors.clone()));
    }
    // Where these are not what was meant, it gets nothing rather than what it never asked for.
    let broader = changed(|body| body["open"]["tenant"] = json!(7));
    assert_eq!((broader.tenant, broader.selectors), (None, Vec::new()));
    let another = changed(|body| body["open"]["name"] = json!("other"));
    assert_eq!(another.selectors, Vec::new());
}

#[test]
fn a_rotation_is_judged_by_nothing_but_the_new_secret() {
    let open = scribe_guarded(Guard::off());
    let kept = open.create(with("url", json!("http://10.0.0.1/x"))).unwrap().definition;
    let today = scribe_guarded(Guard::allowing(Vec::new()));
    let now = Timestamp::from_millis(0);
    assert_eq!(today.rotate(&kept, Rotation::default(), now).unwrap().definition.revision, 2);
    let short = Rotation { secret: Some("whsec_short".to_owned()), grace: None };
    assert_eq!(pointers(today.rotate(&kept, short, now)), ["/secret"]);
}

fn scribe_guarded(guard: Guard) -> Scribe {
    let Some(desk) = Arc::into_inner(scribe().0) else { panic!("it is held twice") };
    Scribe::new(Desk { guard, ..desk })
}

#[test]
fn rotations_without_end_keep_to_the_most_secrets_and_drop_what_is_over() {
    let scribe = scribe();
    let mut kept = scribe.create(webhook()).unwrap().definition;
    let at = Timestamp::from_millis;
    let secrets = |kept: &Definition| scribe.opened(kept).unwrap()[SECRETS].as_array().unwrap().clone();
    for n in 0..12 {
        kept = scribe.rotate(&kept, Rotation::default(), at(n)).unwrap().definition;
    }
    let held = secrets(&kept);
    assert_eq!(held.len(), SECRETS_MAX);
    assert!(held[0].is_string() && held[1..].iter().all(|old| old["until"].is_string()), "{held:?}");
    let last = held[1].clone();
    assert_eq!(last["until"], later(at(11), GRACE).to_string());
    let next = scribe.rotate(&kept, Rotation::default(), later(at(11), GRACE)).unwrap().definition;
    assert_eq!(secrets(&next).len(), 2, "what is over is gone");
}

#[test]
fn what_goes_to_a_chat_has_a_secret_only_where_a_signature_is_asked_for() {
    let made = |settings| scribe().create(settings).unwrap().secret.is_some();
    let mut signed = with("format", json!("slack"));
    signed.insert("signature".to_owned(), json!("standard"));
    assert!(!made(with("format", json!("slack"))) && made(signed) && made(with("format", json!("cloudevents"))));
}

#[test]
fn the_mark_changes_with_the_receiver_and_with_nothing_else() {
    let first = scribe().create(webhook()).unwrap();
    let mark = |draft: &Draft| draft.authored.subscription.mark;
    let patched = |patch: Value| scribe().change(&first.definition, object(patch)).unwrap();
    for same in [
        json!({"events": ["a:b"]}),
        json!({"concurrency": 3}),
        json!({"secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}),
    ] {
        let changed = patched(same);
        assert_eq!((mark(&changed), changed.definition.revision), (mark(&first), 2));
    }
    let rotated = scribe().rotate(&first.definition, Rotation::default(), Timestamp::from_millis(0)).unwrap();
    assert_eq!(mark(&rotated), mark(&first));
    for other in [
        json!({"url": "https://hooks.example.com/other"}),
        json!({"headers": {"x-env": "b"}}),
        json!({"auth": {"bearer": "t"}}),
    ] {
        assert_ne!(mark(&patched(other)), mark(&first));
    }
    let nothing = patched(json!({"events": ["posthaste:**"]}));
    assert_eq!(nothing.definition, first.definition, "nothing is written");
}

#[test]
fn no_debug_text_shows_a_secret() {
    let draft = scribe().create(webhook()).unwrap();
    let secret = draft.secret.clone().unwrap();
    let create = posthaste_actors::messages::Put::Create(with("secrets", json!([secret])));
    for text in [format!("{draft:?}"), format!("{create:?}")] {
        assert!(!text.contains(&secret) && !text.contains("CANARY"), "{text}");
    }
}
