//! The backend `file`: what stands on the disk, and what is never written to.

use crate::anonymous::{anonymous, batch, deliver, deliver_within, restored};
use crate::sending::{Bench, Reported};
use futures_util::future::{join, join_all};
use posthaste_events::{AnyDeliveree, Outcome};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

fn writing(path: &Path, more: Value) -> AnyDeliveree {
    let mut options = json!({ "backend": "file", "path": path, "timeout": "3s" });
    for (key, value) in more.as_object().unwrap() {
        options[key] = value.clone();
    }
    Bench::new().make("analytics", options)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn all_delivered(reported: &Reported) -> bool {
    !reported.outcomes.is_empty() && reported.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Delivered(_)))
}

fn put_off<'a>(reported: &'a Reported, word: &str) -> &'a str {
    assert!(matches!(reported.one(), Outcome::Retry { .. }), "{reported:?}");
    assert!(reported.error().contains(word), "{reported:?}");
    reported.error()
}

#[tokio::test]
async fn an_event_is_a_line_in_a_file_that_only_its_owner_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/telemetry.ndjson");
    let to = writing(&path, json!({}));
    let event = anonymous("shop:sold", 1);
    let (id, installation) = (event.payload.id().to_owned(), event.payload.installation().to_owned());
    assert!(all_delivered(&deliver(&to, vec![event]).await));
    assert!(all_delivered(&deliver(&to, batch(3, &[])).await));
    let written = lines(&path);
    let first = json!({
        "id": id,
        "time": "2023-11-14T22:00:00.000Z",
        "installation": installation,
        "event": "shop:sold",
        "event_properties": { "shop": { "gift": true, "status": "PAID" } },
        "derived_properties": { "shop": { "items_count": 3 } },
    });
    assert_eq!((&written[0], written.len()), (&first, 4));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[tokio::test]
async fn a_full_file_is_followed_by_the_next_and_the_oldest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    let to = writing(&path, json!({ "rotate": "1KiB", "keep": 2 }));
    // Each batch is larger than half a file, so that each has its own.
    for number in 1..=5_u64 {
        let events = (0..3).map(|n| anonymous("shop:sold", number * 10 + n)).collect();
        assert!(all_delivered(&deliver(&to, events).await));
    }
    let ids = |path: &Path| lines(path).iter().map(|l| l["id"].clone()).collect::<Vec<_>>();
    let expected = |number: u64| {
        (0..3).map(|n| Value::from(anonymous("shop:sold", number * 10 + n).payload.id())).collect::<Vec<_>>()
    };
    assert_eq!(ids(&path), expected(5));
    assert_eq!(ids(&folder.path().join("t.ndjson.1")), expected(4));
    assert_eq!(ids(&folder.path().join("t.ndjson.2")), expected(3));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    let to = writing(&path, json!({}));
    deliver(&to, batch(2, &[])).await;
    let whole = fs::read(&path).unwrap();
    let second = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    // Wherever it was cut, its first line and what follows are whole again.
    for cut in (0..whole.len()).step_by(7).chain([1, second - 1, second, second + 1, whole.len() - 1]) {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(all_delivered(&deliver(&to, vec![anonymous("shop:sold", 9)]).await), "{cut}");
        let left = if cut >= second { 2 } else { 1 };
        assert_eq!(lines(&path).len(), left, "{cut}");
    }
}

#[tokio::test]
async fn nuls_that_a_crash_left_at_the_end_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    let to = writing(&path, json!({}));
    deliver(&to, batch(2, &[])).await;
    let whole = fs::read(&path).unwrap();
    let second = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for (cut, left) in [(0, 1), (3, 1), (second - 1, 1), (second, 2), (second + 20, 2), (whole.len(), 3)] {
        for nuls in [1, 4_096, 3_000_000] {
            fs::write(&path, [&whole[..cut], &vec![0; nuls]].concat()).unwrap();
            assert!(all_delivered(&deliver(&to, vec![anonymous("shop:sold", 9)]).await), "{cut} {nuls}");
            assert_eq!(lines(&path).len(), left, "{cut} {nuls}");
        }
    }
    // More than a batch of ours can have left, or behind somebody else's bytes, they stay.
    for text in [vec![0; 5_000_000], b"notes\0\0".to_vec(), b"notes\n\0\0".to_vec()] {
        fs::write(&path, &text).unwrap();
        put_off(&deliver(&to, batch(1, &[])).await, "so nothing is written to it");
        assert!(fs::read(&path).unwrap() == text);
    }
}

#[tokio::test]
async fn a_file_of_somebody_else_is_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    for text in ["my notes", "{\"id\":\"x\"}\nmy notes", "{\"a\":1}"] {
        fs::write(&path, text).unwrap();
        put_off(&deliver(&writing(&path, json!({})), batch(1, &[])).await, "none of ours");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // Nor is one written to that ends as a text does: a key, a configuration, nothing but line ends.
    for text in ["c2VjcmV0\n", "[server]\nlisten = \"127.0.0.1:0\"\n", "{\"a\":1}\n", "\n", "{\"id\"\n", "{\n"] {
        fs::write(&path, text).unwrap();
        put_off(&deliver(&writing(&path, json!({})), batch(1, &[])).await, "does not begin with a line of ours");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let long = format!("{{\"id\":\"{}", "x".repeat(2_000_000));
    fs::write(&path, &long).unwrap();
    put_off(&deliver(&writing(&path, json!({})), batch(1, &[])).await, "none of ours");
    assert_eq!(fs::metadata(&path).unwrap().len(), 2_000_007);
}

#[tokio::test]
async fn no_link_is_followed_and_nothing_but_a_file_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let (target, path) = (folder.path().join("target"), folder.path().join("t.ndjson"));
    fs::write(&target, "").unwrap();
    symlink(&target, &path).unwrap();
    put_off(&deliver(&writing(&path, json!({})), batch(1, &[])).await, "a link, which is not followed");
    assert_eq!(fs::metadata(&target).unwrap().len(), 0);
    // A link to nothing makes no file either.
    fs::remove_file(&target).unwrap();
    put_off(&deliver(&writing(&path, json!({})), batch(1, &[])).await, "a link, which is not followed");
    assert!(!target.exists());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    put_off(&deliver(&writing(&path, json!({})), batch(1, &[])).await, "file: ");
    fs::remove_dir(&path).unwrap();
    // Opened as a file, a pipe that nobody reads would hold the thread for ever.
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    put_off(&deliver(&writing(&path, json!({})), batch(1, &[])).await, "no regular file");
    put_off(&deliver(&writing(Path::new("/dev/full"), json!({})), batch(1, &[])).await, "no regular file");
}

#[tokio::test]
async fn a_folder_that_can_not_be_made_is_tried_again_and_works_once_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let blocker = folder.path().join("blocker");
    fs::write(&blocker, "").unwrap();
    let path = blocker.join("t.ndjson");
    let to = writing(&path, json!({}));
    put_off(&deliver(&to, batch(1, &[])).await, "Not a directory");
    fs::remove_file(&blocker).unwrap();
    assert!(all_delivered(&deliver(&to, batch(1, &[])).await));
    // Whoever takes the file away is followed.
    fs::rename(&path, folder.path().join("taken")).unwrap();
    assert!(all_delivered(&deliver(&to, batch(1, &[])).await));
    assert_eq!(lines(&path).len(), 1);
}

#[tokio::test]
async fn a_file_that_somebody_holds_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    let to = writing(&path, json!({}));
    let reported = deliver_within(&to, batch(1, &[]), Duration::from_millis(100)).await;
    put_off(&reported, "somebody else holds the file");
    drop(held);
    assert!(all_delivered(&deliver(&to, batch(1, &[])).await));
}

#[tokio::test]
async fn calls_of_one_process_wait_for_their_turn_and_do_not_pay_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    let to = writing(&path, json!({ "timeout": "60s" }));
    // The first has the turn and waits for whoever holds the file; the second only for the first.
    let second = async {
        let reported = deliver_within(&to, vec![anonymous("shop:sold", 2)], Duration::from_millis(100)).await;
        drop(held);
        reported
    };
    let (first, second) = join(deliver(&to, vec![anonymous("shop:sold", 1)]), second).await;
    assert!(all_delivered(&first), "{first:?}");
    assert!(matches!(second.one(), Outcome::Unattempted(_)), "{second:?}");
    assert_eq!(second.error(), "file: other batches were written all the time");
    // With time enough as many as a subscription may have at once are written, one after the other.
    let all = (1..=32).map(|n| deliver(&to, vec![anonymous("shop:sold", n)]));
    assert!(join_all(all).await.iter().all(all_delivered));
    assert_eq!(lines(&path).len(), 33);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_writers_share_a_file_over_its_rotation_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    let options = json!({ "rotate": "4KiB", "keep": 1_000, "timeout": "60s" });
    // Each is made from a table of kinds of its own, so that only the lock on the file keeps them apart.
    let writers = (0..4_u64).map(|writer| {
        let to = writing(&path, options.clone());
        tokio::spawn(async move {
            for round in 0..25_u64 {
                let events = (0..4).map(|n| anonymous("shop:sold", 1 + writer * 100 + round * 4 + n)).collect();
                assert!(all_delivered(&deliver(&to, events).await));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap().path();
        assert!(fs::metadata(&entry).unwrap().len() <= 4_096, "{}", entry.display());
        ids.extend(lines(&entry).iter().map(|l| l["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (400, 400));
}

#[tokio::test]
async fn a_payload_with_line_ends_stays_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    let odd = b"{\"event\":\"shop:sold\",\"event_properties\":{\r\n\"a\":\"x\\ny\"},\n\"derived_properties\":{}}";
    assert!(all_delivered(&deliver(&writing(&path, json!({})), vec![restored(odd, 1)]).await));
    let written = lines(&path);
    assert_eq!((written.len(), &written[0]["event_properties"]["a"]), (1, &Value::from("x\ny")));
}

#[tokio::test]
async fn what_stands_in_a_kept_files_place_stops_the_rotation_not_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.ndjson");
    fs::create_dir(folder.path().join("t.ndjson.1")).unwrap();
    File::create(folder.path().join("t.ndjson.1/x")).unwrap().write_all(b"x").unwrap();
    let to = writing(&path, json!({ "rotate": "1KiB", "keep": 1 }));
    assert!(all_delivered(&deliver(&to, batch(3, &[])).await));
    let reported = deliver(&to, batch(3, &[])).await;
    assert!(reported.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Retry { .. })), "{reported:?}");
    assert_eq!(lines(&path).len(), 3);
}
