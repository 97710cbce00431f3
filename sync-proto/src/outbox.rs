//! Send queue of a session: shared and private pieces, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::account::{Account, Charge, SharedBytes};
use crate::frame::Frame;

/// Size at which the next private piece begins.
const PIECE: usize = 32 * 1024;

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>, Charge),
    Shared(Arc<SharedBytes>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes, _) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Bytes to send.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Sent bytes of the first piece.
    at: usize,
    len: usize,
    sent: u64,
    account: Account,
}

impl Outbox {
    /// A queue whose private pieces are charged to `account`.
    pub fn new(account: &Account) -> Self {
        Self { account: account.clone(), ..Self::default() }
    }

    pub fn frame(&mut self, frame: &Frame<'_>) {
        self.write(|out| frame.encode(out));
    }

    /// Lets `f` append to the session's private bytes.
    pub fn write<R>(&mut self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let open = matches!(self.pieces.back(), Some(Piece::Own(bytes, _)) if bytes.len() < PIECE);
        if !open {
            self.pieces.push_back(Piece::Own(Vec::new(), self.account.open()));
        }
        match self.pieces.back_mut() {
            Some(Piece::Own(bytes, charge)) => {
                let before = bytes.len();
                let result = f(bytes);
                self.len += bytes.len() - before;
                charge.set(bytes.len());
                result
            }
            _ => f(&mut Vec::new()),
        }
    }

    pub fn share(&mut self, bytes: Arc<SharedBytes>) {
        self.len += bytes.len();
        self.pieces.push_back(Piece::Shared(bytes));
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn front(&self) -> &[u8] {
        self.pieces.front().and_then(|p| p.bytes().get(self.at..)).unwrap_or_default()
    }

    /// All pieces in order, for one vectored write.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = self.at;
        self.pieces.iter().map(move |piece| piece.bytes().get(std::mem::take(&mut at)..).unwrap_or_default())
    }

    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.len);
        self.at += n;
        self.len -= n;
        self.sent += n as u64;
        while let Some(size) = self.pieces.front().map(|p| p.bytes().len()).filter(|&size| size <= self.at) {
            self.at -= size;
            self.pieces.pop_front();
        }
    }

    pub fn clear(&mut self) {
        *self = Self { sent: self.sent, account: self.account.clone(), ..Self::default() };
    }
}
