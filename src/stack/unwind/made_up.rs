//! Memory made up for a test.

use std::collections::BTreeMap;

use crate::sys::memory::Memory;

const PAGE: u64 = 4096;

/// Bytes at addresses; everything else is unreadable.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes(BTreeMap<u64, Box<[Option<u8>]>>);

impl Bytes {
    pub(super) fn words(address: u64, words: &[u64]) -> Self {
        let mut bytes = Self::default();
        for (index, word) in words.iter().enumerate() {
            bytes.put(address + 8 * index as u64, &word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn put(&mut self, address: u64, bytes: &[u8]) {
        for (byte, address) in bytes.iter().zip(address..) {
            let page = self.0.entry(address / PAGE).or_insert_with(|| vec![None; PAGE as usize].into());
            page[(address % PAGE) as usize] = Some(*byte);
        }
    }
}

impl Memory for Bytes {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        for (target, address) in buffer.iter_mut().zip(address..) {
            let page = self.0.get(&(address / PAGE));
            let Some(byte) = page.and_then(|page| page[(address % PAGE) as usize]) else { break };
            *target = byte;
            count += 1;
        }
        count
    }
}
