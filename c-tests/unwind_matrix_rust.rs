//! The shapes of stack that Rust code makes, one thread each, all blocked at their innermost frame. See
//! unwind_matrix.c. Compiled by rustc alone, without cargo.

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, mpsc};
use std::thread;

unsafe extern "C" {
    fn pause() -> i32;
}

static ARRIVED: AtomicUsize = AtomicUsize::new(0);

#[inline(never)]
fn block(how: u32) -> u32 {
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    while black_box(how) != u32::MAX {
        // SAFETY: pause takes no argument and only waits.
        unsafe { pause() };
    }
    how
}

trait Visitor {
    fn visit(&self, value: u32) -> u32;
}

struct Plain(u32);

impl Visitor for Plain {
    #[inline(never)]
    fn visit(&self, value: u32) -> u32 {
        block(value) + self.0
    }
}

struct Wrapper<T>(T);

impl<T: Visitor> Wrapper<T> {
    #[inline(never)]
    fn forward(&self, value: u32) -> u32 {
        self.0.visit(value) + 1
    }
}

struct BlocksInDrop(u32);

impl Drop for BlocksInDrop {
    #[inline(never)]
    fn drop(&mut self) {
        black_box(block(self.0));
    }
}

#[inline(never)]
fn generic<T: Copy + Into<u64>>(values: &[T]) -> u64 {
    u64::from(block(values.len() as u32)) + values[0].into()
}

#[inline(never)]
fn apply<F: Fn(u32) -> u32>(function: F) -> u32 {
    function(1) + 1
}

#[inline(never)]
fn through_object(visitor: &dyn Visitor) -> u32 {
    visitor.visit(2) + 1
}

#[inline(never)]
fn iterate(values: &[u32]) -> u32 {
    values.iter().map(|value| value + 1).filter(|value| value % 2 == 0).map(|value| block(value) + 1).sum()
}

#[inline(never)]
fn recurse(depth: u32) -> u32 {
    if depth == 0 { block(0) } else { recurse(depth - 1) + black_box(depth) }
}

#[inline(never)]
fn unwinding() -> u32 {
    let _guard = BlocksInDrop(3);
    std::panic::panic_any(4_u32)
}

mod nested {
    pub mod deeper {
        #[inline(never)]
        pub fn function(value: u32) -> u32 {
            super::super::block(value) + 1
        }
    }
}

fn wait_for_ever_on_condition() {
    let (mutex, condition) = (Mutex::new(()), Condvar::new());
    let mut guard = mutex.lock().unwrap();
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    loop {
        guard = condition.wait(guard).unwrap();
    }
}

fn receive_for_ever() {
    let (sender, receiver) = mpsc::channel::<u32>();
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    black_box(receiver.recv().ok());
    drop(sender);
}

#[inline(never)]
fn keep<T>(value: T) {
    black_box(value);
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let shapes: Vec<(&str, Box<dyn FnOnce() + Send>)> = vec![
        ("plain", Box::new(|| keep(block(1)))),
        ("generic", Box::new(|| keep(generic(&[1_u32, 2])))),
        (
            "closure",
            Box::new(|| {
                let captured = black_box(3);
                black_box(apply(|value| block(value) + captured));
            }),
        ),
        ("object", Box::new(|| keep(through_object(black_box(&Plain(1)))))),
        ("wrapper", Box::new(|| keep(Wrapper(Plain(2)).forward(1)))),
        ("iterator", Box::new(|| keep(iterate(&[1, 2, 3])))),
        ("recursion", Box::new(|| keep(recurse(25)))),
        ("nested", Box::new(|| keep(nested::deeper::function(1)))),
        ("unwinding", Box::new(|| keep(std::panic::catch_unwind(unwinding).is_err()))),
        ("condition", Box::new(wait_for_ever_on_condition)),
        ("channel", Box::new(receive_for_ever)),
    ];
    let count = shapes.len();
    for (name, shape) in shapes {
        thread::Builder::new().name(name.into()).spawn(shape).unwrap();
    }
    while ARRIVED.load(Ordering::SeqCst) < count {
        thread::yield_now();
    }
    let mut output = std::io::stdout();
    output.write_all(b"ready\n").unwrap();
    output.flush().unwrap();
    black_box(std::io::stdin().read(&mut [0]).ok());
    output.write_all(b"PASS\n").unwrap();
    std::process::exit(0);
}
