//! A network that leads nowhere: every address is local to it, so a daemon that dials 10.0.0.1 or 8.8.8.8 reaches a
//! listener of the test, and nothing can leave the machine.

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

/// The network; it ends with this value and what runs in it.
#[derive(Debug)]
pub struct PrivateNetwork {
    /// Holds the namespace open; it ends by itself when this process does, since it reads our pipe.
    keeper: Child,
}

impl PrivateNetwork {
    /// Makes one.
    ///
    /// # Errors
    /// Where the machine does not let us: root, `unshare` and `ip` are needed. A test that needs this fails then.
    pub fn make() -> Result<Self> {
        let script = "ip link set lo up && ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo \
                      && echo ready && exec cat";
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("no network namespace could be made; this test needs root, unshare and ip")?;
        let mut said = String::new();
        if let Some(out) = keeper.stdout.take() {
            BufReader::new(out).read_line(&mut said)?;
        }
        let network = Self { keeper };
        ensure!(said.trim() == "ready", "no network namespace could be made; this test needs root, unshare and ip");
        Ok(network)
    }

    /// Runs `inside` on a thread that lives in the network; the sockets it makes and the processes that it starts do
    /// so too.
    ///
    /// # Errors
    /// What `inside` answers; where the thread can not enter.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.keeper.id()))?;
        let done = thread::scope(|scope| {
            scope
                .spawn(|| {
                    // Only this thread moves, and it ends here.
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                    inside()
                })
                .join()
        });
        match done {
            Ok(result) => result,
            Err(_) => bail!("what ran in the network panicked"),
        }
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::PrivateNetwork;
    use crate::{names, process};
    use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};

    #[test]
    fn every_address_leads_to_a_listener_of_ours_and_is_counted() {
        let network = PrivateNetwork::make().unwrap();
        let before = process::connections_begun(network.keeper.id()).unwrap();
        let reached = network.run(|| {
            let listener = TcpListener::bind("[::]:0")?;
            let port = listener.local_addr()?.port();
            let _out = TcpStream::connect((Ipv4Addr::new(8, 8, 8, 8), port))?;
            Ok(listener.accept()?.0.local_addr()?.ip().to_canonical())
        });
        assert_eq!(reached.unwrap(), IpAddr::from([8, 8, 8, 8]));
        assert_eq!(process::connections_begun(network.keeper.id()).unwrap(), before + 1);
    }

    #[test]
    fn names_resolve_to_what_a_test_says() {
        let network = PrivateNetwork::make().unwrap();
        let found = network.run(|| {
            names::serve(|name| (name == "here.test").then(|| vec![IpAddr::from([10, 1, 2, 3])]))?;
            let missing = "gone.test:80".to_socket_addrs().is_err();
            Ok(("here.test:80".to_socket_addrs()?.next(), missing))
        });
        let (address, missing) = found.unwrap();
        assert_eq!(address.unwrap().ip(), IpAddr::from([10, 1, 2, 3]));
        assert!(missing, "a name that is not there was found");
    }
}
