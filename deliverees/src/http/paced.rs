//! A connection that is read in pieces: after so many bytes without a pause whoever reads gives way to the others once.
//!
//! Decides nothing of what is read. An HTTP/2 connection takes in whatever has arrived before those that wait for it look
//! at it, and what it takes in need not fit any window: a flood of informational answers (RFC 9110 section 15.2) has no
//! flow control (RFC 9113 section 5.2.1) and costs a few hundred bytes of memory for each ten of the wire.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads at most `most` bytes between two pauses; what is written passes through.
pub(super) struct Paced<T> {
    inner: T,
    most: usize,
    left: usize,
}

impl<T> Paced<T> {
    /// Over a connection; `most` is in bytes, and a single read may pass it.
    pub(super) const fn new(inner: T, most: usize) -> Self {
        Self { inner, most, left: most }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left == 0 {
            this.left = this.most;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        // Nothing there is a pause by itself: those who wait have their turn then.
        let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, buffer) else {
            this.left = this.most;
            return Poll::Pending;
        };
        this.left = this.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.get_mut().inner).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::Paced;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

    /// How many bytes are read before a first pause.
    fn read_at_once(reader: &mut (impl AsyncRead + Unpin)) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = 0;
        loop {
            let mut bytes = [0; 100];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *reader).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(read) => read.unwrap(),
                Poll::Pending => return all,
            }
            match buffer.filled().len() {
                0 => return all,
                more => all += more,
            }
        }
    }

    #[test]
    fn no_more_than_a_piece_is_read_between_two_pauses() {
        let flood = [b'x'; 100_000];
        assert_eq!(read_at_once(&mut &flood[..]), 100_000, "without it there is no pause");
        let mut paced = Paced::new(&flood[..], 1_000);
        assert_eq!((read_at_once(&mut paced), read_at_once(&mut paced)), (1_000, 1_000));
    }

    #[tokio::test]
    async fn whatever_came_is_read_in_the_end() {
        let flood: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut all = Vec::new();
        Paced::new(&flood[..], 1_000).read_to_end(&mut all).await.unwrap();
        assert_eq!(all, flood);
    }
}
