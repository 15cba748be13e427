//! Memory made up for a test.

use std::collections::BTreeMap;

use crate::sys::memory::Memory;

/// Bytes at addresses; everything else is unreadable.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes(BTreeMap<u64, u8>);

impl Bytes {
    pub(super) fn words(address: u64, words: &[u64]) -> Self {
        let mut bytes = Self::default();
        for (index, word) in words.iter().enumerate() {
            bytes.put(address + 8 * index as u64, &word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn put(&mut self, address: u64, bytes: &[u8]) {
        self.0.extend((address..).zip(bytes.iter().copied()));
    }
}

impl Memory for Bytes {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        for (target, address) in buffer.iter_mut().zip(address..) {
            let Some(byte) = self.0.get(&address) else { break };
            *target = *byte;
            count += 1;
        }
        count
    }
}
