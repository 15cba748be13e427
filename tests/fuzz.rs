//! The targets of `make fuzz` with their seeds and a fixed sequence of mutations, at every `cargo test`: no panic, no
//! hang, no memory beyond a bound.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;

/// Mutations of each target. A second or two.
const ROUNDS: usize = 10_000;

/// Pieces that mean something to one target or another.
const PIECES: [&[u8]; 24] = [
    b"'",
    b"\"",
    b"\\",
    b";",
    b"|",
    b"#",
    b"\n",
    b"\r\n",
    b"\x03",
    b"{\"id\":",
    b",\"command\":\"",
    b"}",
    b"\\u",
    b"\\ud83d",
    b"=",
    b"[",
    b"{",
    b"--limit",
    b"0x",
    b"data 1 ",
    b"done 1 0\n",
    b"18446744073709551615",
    b"\xff",
    b"*(",
];

/// Steele and Vigna's splitmix64: the same numbers at every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    match numbers.below(6) {
        0 if at < bytes.len() => bytes[at] = numbers.below(256) as u8,
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 => bytes.truncate(at),
        3 => drop(bytes.splice(at..at, other[..numbers.below(other.len() + 1)].iter().copied())),
        // Long: a piece again and again, beyond what a line may have.
        4 if numbers.below(200) == 0 => {
            let piece = PIECES[numbers.below(PIECES.len())];
            drop(bytes.splice(at..at, piece.repeat(70_000 / piece.len())));
        }
        _ => drop(bytes.splice(at..at, PIECES[numbers.below(PIECES.len())].iter().copied())),
    }
}

#[test]
fn seeds_and_their_mutations() {
    for (name, target) in targets::ALL {
        let folder = format!("{}/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut paths: Vec<_> =
            fs::read_dir(&folder).expect(&folder).map(|entry| entry.expect("entry").path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a seed")).collect();
        assert!(!seeds.is_empty(), "{folder} is empty");
        seeds.iter().for_each(|seed| target(seed));
        let (begun, mut numbers) = (std::time::Instant::now(), Numbers(7));
        for _ in 0..ROUNDS {
            let mut bytes = seeds[numbers.below(seeds.len())].clone();
            let other = &seeds[numbers.below(seeds.len())];
            (0..=numbers.below(6)).for_each(|_| mutate(&mut bytes, other, &mut numbers));
            target(&bytes);
        }
        println!("{name}: {ROUNDS} mutations in {:?}", begun.elapsed());
    }
}
