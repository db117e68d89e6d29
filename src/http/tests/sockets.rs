//! The server on a real socket: what the routes alone cannot show.

use super::stage::Stage;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Sends bytes and reads until the server closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server that has answered and closed already is fine.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request that asks the server to close afterwards.
fn post(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{head}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[actix_web::test]
async fn what_is_no_http_or_no_whole_request_is_refused_and_the_next_is_served() {
    let stage = Stage::open().await;
    let (server, addresses) = crate::http::listen(stage.shared.clone(), ([127, 0, 0, 1], 0).into(), 1).unwrap();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let address = addresses[0];
    let asked = tokio::task::spawn_blocking(move || {
        let json = "content-type: application/json\r\ncontent-length: 14";
        let cases: [(&[u8], &str); 5] = [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
            (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nbad header\r\n\r\n", "400"),
            (&post("content-type: application/json\r\ntransfer-encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"), "400"),
            (&post("content-length: 14\r\ncontent-length: 15", b"{\"type\":\"a:b\"}"), "400"),
            (&post(json, b"{\"type\":\"a:b\"}"), "202"),
        ];
        for (bytes, status) in cases {
            let answer = exchange(address, bytes);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{} {answer}", String::from_utf8_lossy(bytes));
        }
        // A body over the bound: read to its end, so that a client that reads late has its answer too.
        let long = vec![b' '; 3 << 20];
        let head = format!("content-type: application/json\r\ncontent-length: {}", long.len());
        let answer = exchange(address, &post(&head, &long));
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("problem+json"), "{answer}");
    });
    asked.await.unwrap();
    assert_eq!(stage.count().await, 1);
    handle.stop(false).await;
}

#[actix_web::test]
async fn where_many_connections_are_open_an_answer_closes_its_own() {
    let stage = Stage::open().await;
    let (server, addresses) = crate::http::listen(stage.shared.clone(), ([127, 0, 0, 1], 0).into(), 1).unwrap();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    stage.shared.crowd.store(4, Ordering::Relaxed);
    let address = addresses[0];
    let ask = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").unwrap();
        let mut answer = vec![0; 4_096];
        let read = stream.read(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer[..read]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{text}");
        (stream, text.contains("connection: close"))
    };
    let asked = tokio::task::spawn_blocking(move || {
        let idle: Vec<_> = (0..3).map(|_| ask()).collect();
        assert!(idle.iter().all(|(_, closes)| !closes));
        let (mut fourth, closes) = ask();
        assert!(closes);
        assert_eq!(fourth.read(&mut [0; 1]).unwrap(), 0);
        idle
    });
    drop(asked.await.unwrap());
    // Closed connections count no more; the server learns of that in its own time.
    let gone = async {
        while stage.shared.connections.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    assert!(!tokio::task::spawn_blocking(ask).await.unwrap().1);
    handle.stop(false).await;
}
