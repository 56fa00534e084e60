//! A connection that can be reset: its peer sees RST, not a polite end.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::net::TcpStream;

use super::server::Cut;

/// What pulls the plug of one connection.
#[derive(Clone, Default)]
pub struct Plug(Arc<AtomicBool>);

impl Plug {
    /// The connection is reset as soon as it is dropped; the error that makes hyper drop it.
    pub fn pull(&self) -> Cut {
        self.0.store(true, Relaxed);
        Cut
    }
}

/// A TCP connection for hyper with a [`Plug`].
pub struct Socket {
    io: TokioIo<TcpStream>,
    plug: Plug,
}

impl Socket {
    pub fn new(io: TokioIo<TcpStream>, plug: Plug) -> Socket {
        Socket { io, plug }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.plug.0.load(Relaxed) {
            let _ = self.io.inner().set_zero_linger();
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // A reset answers nothing, whatever hyper has to say.
        if self.plug.0.load(Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
