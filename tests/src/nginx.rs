//! nginx as a receiver over TLS: a web server that is not ours judges what our handshakes and HTTP/2 are worth.

use crate::{Identity, daemon, until};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One that runs, a server for each certificate; it ends when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    log: PathBuf,
    ports: Vec<u16>,
}

/// A server of it: what it shows, and whether it speaks HTTP/2.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// Its certificate.
    pub identity: &'a Identity,
    /// Whether it offers `h2` by ALPN.
    pub http_2: bool,
}

/// A request that it took, from its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which server, in the order in which they were given.
    pub server: usize,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// The number of the connection.
    pub connection: u64,
}

impl Nginx {
    /// Starts one in `home`, on free ports of loopback; every request is answered with 200.
    ///
    /// # Errors
    /// Where there is no nginx, or it does not listen within 10 seconds.
    pub fn start(home: &Path, servers: &[Server<'_>]) -> Result<Self> {
        let ports = servers.iter().map(|_| daemon::free_port()).collect::<Result<Vec<_>>>()?;
        let mut text = String::from(
            "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log error.log;\n\
             events { worker_connections 256; }\n\
             http {\n\
             log_format taken '$server_port $server_protocol $connection';\n\
             access_log taken.log taken;\n",
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(text, "{kind}_temp_path {kind};")?;
        }
        for (number, (server, port)) in servers.iter().zip(&ports).enumerate() {
            fs::write(home.join(format!("{number}.pem")), &server.identity.chain_pem)?;
            fs::write(home.join(format!("{number}.key")), &server.identity.key_pem)?;
            let protocol = if server.http_2 { " http2" } else { "" };
            writeln!(
                text,
                "server {{ listen 127.0.0.1:{port} ssl{protocol}; ssl_certificate {number}.pem; \
                 ssl_certificate_key {number}.key; location / {{ return 200 'taken'; }} }}"
            )?;
        }
        text.push_str("}\n");
        fs::write(home.join("nginx.conf"), text)?;
        let child = Command::new("nginx")
            .args(["-p", home.to_str().context("a path")?, "-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("this test needs nginx")?;
        let nginx = Self { child, log: home.join("taken.log"), ports };
        until("nginx listens", Duration::from_secs(10), || {
            let stands = |port: &u16| TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).is_ok();
            Ok(nginx.ports.iter().all(stands).then_some(()))
        })?;
        Ok(nginx)
    }

    /// A URL of one of the servers.
    #[must_use]
    pub fn url(&self, server: usize) -> String {
        format!("https://127.0.0.1:{}/hooks", self.ports.get(server).copied().unwrap_or_default())
    }

    /// Where one of the servers listens.
    #[must_use]
    pub fn address(&self, server: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.get(server).copied().unwrap_or_default()))
    }

    /// Every request that it took.
    ///
    /// # Errors
    /// Where its log is not as it is told to write it.
    pub fn taken(&self) -> Result<Vec<Taken>> {
        let text = fs::read_to_string(&self.log)?;
        let read = |line: &str| {
            let mut words = line.split(' ');
            let port: u16 = words.next()?.parse().ok()?;
            let server = self.ports.iter().position(|known| *known == port)?;
            let protocol = words.next()?.to_owned();
            Some(Taken { server, protocol, connection: words.next()?.parse().ok()? })
        };
        text.lines().map(|line| read(line).with_context(|| format!("the line {line:?}"))).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It has no other process.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
